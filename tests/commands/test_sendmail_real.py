"""Our sendmail and Debian's, side by side: exit status, both outputs, and the file in the maildrop queue."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from postfixpy.mail.records import RecordFile

pytestmark = pytest.mark.real

MAIN = """\
compatibility_level = 3.6
myhostname = mail.example.com
mydestination = example.com
local_recipient_maps =
inet_interfaces = 127.0.0.1
message_size_limit = 100000
maillog_file_prefixes = /tmp
alias_database =
"""
CALLS: list[tuple[list[str], bytes]] = [
    (["-f", "me", "a@b"], b"Subject: x\n\nbody\n"),
    (["-f", "Some One <me@x>", "A B <a@b>, c (d)", "e"], b"From me\n>From you\r\nSubject: x\r\n\r\n.\r\nafter\r\n"),
    (["-i", "-f", "", "a@b"], b".\n..\nno newline"),
    (["-oi", "-f", "<>", "a@b"], b"x" * 2048 + b"\n" + b"y" * 5000 + b"\nz\n"),
    (["-t", "-f", "me"], b"To: a, B <b@c>,\n (c) d\nCc: group: x, y;\nBcc: z\nX: " + b"w" * 3000 + b"\n\nTo: no\n"),
    (["-t", "-f", "me", "x"], b"Resent-To: a\nTo: b\nResent-Cc: c\n"),
    (["-t", "-f", "me"], b"Subject: nobody\n\n"),
    (["-t", "-f", "me"], b"To: a\nno header here\nCc: b\n"),
    (["-t", "-f", "me"], b"To: a\n\nlast line"),
    (["-t", "-f", "me"], b"To: a"),
    (["-f", "me"], b"x\n"),
    (["-B", "8BITMIME", "-R", "full", "-V", "id", "-N", "success,failure", "-f", "me", "a", "b"], b"x\n"),
    (["-B", "7BIT", "-G", "-XV", "-f", "me", "a"], b"x\n"),
    (["-XV+=", "-f", "me", "a"], b"x\n"),
    (["-V+=", "-f", "me", "a"], b"x\n"),
    (["-V", "+=", "-f", "me", "a"], b"x\n"),
    (["-XV", "-f", "", "a"], b"x\n"),
    (["-F", "Full Name", "-f", "me", "a"], b"x\n"),
    (["-v", "-f", "me", "a"], b"x\n"),
    (["-bv", "-f", "me", "a", "b"], b"x\n"),
    (["-bv", "-f", "", "a"], b""),
    (["-f", "me", "", "a,,b", "<>"], b"x\n"),
    (["-f", "me", "--", "-odd@x"], b"x\n"),
    (["-f", "me", "a", "-t"], b"To: b\n\n"),
    (["-f", "a, b", "c"], b"x\n"),
    (["-f", "me", "a"], b"x" * 200000),
    (["-f", "me", "a"], b"x\n" * 60000),
    (["-f", "me", "a"], b"nul\0byte\n\xff\xfe\n"),
    (["-f", "m\xe9@x", "\xe4@x"], b"x\n"),
    (["-f", "me", "line\nbreak@x"], b"x\n"),
    (["-f", "me", '"quoted string"@x', "a\\@b@c"], b"x\n"),
    (["-oA"], b""),
    (["-bi"], b""),
    (["-bz"], b""),
    (["-q30m"], b""),
    (["-qx"], b""),
    (["-n"], b""),
    (["-Z"], b""),
    (["-f"], b""),
    (["-R", "x", "-f", "me", "a"], b"x\n"),
    (["-V", "x" * 101, "-f", "me", "a"], b"x\n"),
    (["-bp", "x"], b""),
    (["-t", "-bp"], b""),
    (["-bv", "-t", "a"], b""),
    (
        ["-om", "-oem", "-m", "-e", "x", "-L", "x", "-O", "Foo=bar", "-c", "-x", "-U", "-p", "x", "-f", "me", "a"],
        b"x\n",
    ),
]


@pytest.fixture(scope="module")
def place() -> Iterator[Path]:
    if not os.path.exists("/usr/sbin/sendmail") or os.geteuid() != 0:
        pytest.skip("needs Debian's postfix and root")
    directory = Path(tempfile.mkdtemp(prefix="snd", dir="/tmp"))
    directory.chmod(0o755)
    for side in ("real", "ours"):
        for name in ("maildrop", "public", "private"):
            (directory / side / "q" / name).mkdir(parents=True)
        text = MAIN + f"queue_directory = {directory}/{side}/q\nmaillog_file = {directory}/{side}/log\n"
        (directory / side / "main.cf").write_text(text)
        (directory / side / "master.cf").write_text("")
    yield directory
    shutil.rmtree(directory)


def run(place: Path, side: str, arguments: list[str], message: bytes) -> tuple[int, bytes, list[str], list[list[str]]]:
    program = "import sys; from postfixpy.commands.sendmail import main; sys.exit(main(['sendmail', *sys.argv[1:]]))"
    command = ["/usr/sbin/sendmail"] if side == "real" else [sys.executable, "-c", program]
    done = subprocess.run(
        [*command, "-C", str(place / side), *arguments],
        input=message,
        capture_output=True,
        env={"PATH": "/usr/sbin:/usr/bin:/bin", "PYTHONPATH": os.getcwd(), "LC_ALL": "C.UTF-8"},
        timeout=60,
    )
    files = []
    for path in (place / side / "q/maildrop").iterdir():
        with path.open("rb") as file:
            records = [r.kind + r.payload.decode("utf-8", "surrogateescape") for r in RecordFile(file, str(path))]
        files.append([record for record in records if record[0] != "T"])
        path.unlink()
    return done.returncode, done.stdout, done.stderr.decode("utf-8", "surrogateescape").splitlines(), files


@pytest.mark.parametrize(("arguments", "message"), CALLS)
def test_same(place: Path, arguments: list[str], message: bytes) -> None:
    assert run(place, "ours", arguments, message) == run(place, "real", arguments, message)
