"""Our sendmail and Debian's, side by side: exit status, both outputs, and the file in the maildrop queue."""

import os
import re
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
smtpd_error_sleep_time = 0
smtpd_hard_error_limit = 1000
smtpd_soft_error_limit = 1000
smtpd_junk_command_limit = 1000
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
    (["-kq"], b""),
    (["-nq"], b""),
    (["-vk", "-kf"], b""),
    (["-dash@d.example"], b""),
    (["-dash", "-Z", "-f", "me", "-k"], b""),
    (["-V", "", "-f", "me", "a"], b"x\n"),
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


TALKS = [
    ["HELO me", "MAIL FROM:<a@b>", "RCPT TO:<c@d>", "DATA", "Subject: x", "", "..dot", "text", ".", "QUIT"],
    ["MAIL FROM:<a@b>", "RCPT TO:<c@d>", "RCPT TO:<e@f>", "DATA", ".", "QUIT"],
    [
        *("EHLO [x]", "MAIL FROM:<nobody", "MAIL", "MAIL FROM:", "MAIL TO:<x>", "MAIL FROM:<a> <b>"),
        *("MAIL FROM: <me@x> SIZE=10 FOO=bar", "MAIL FROM: <me@x> SIZE=99999999999", "MAIL FROM:<x> SIZE=x"),
        *(
            "MAIL FROM:<x> RET=x",
            "MAIL FROM:<x> RET=FULL RET=HDRS",
            "MAIL FROM:<x> ENVID=+zz",
            "MAIL FROM:<x> ENVID=+07",
        ),
        *("MAIL FROM:<x> BODY=BINARY", "MAIL FROM:<x> AUTH=<>", "MAIL FROM:<x> SMTPUTF8", "RSET"),
        *("mail from:<me@x> body=8bitmime ret=hdrs envid=a+2Bb size=10", "MAIL FROM:<x>"),
        *("RCPT TO:<>", "RCPT", "RCPT TO:", "RCPT FROM:<x>", "RCPT TO:<a@b", "RCPT TO:<a> <b>", "RCPT TO:a b"),
        *("RCPT TO:<a@b> NOTIFY=NEVER,FAILURE", "RCPT TO:<a@b> NOTIFY=", "RCPT TO:<a@b> ORCPT=x", "RCPT TO:<a@b> XX"),
        *("RCPT TO:<a@b> ORCPT=rfc822;a+2 NOTIFY=delay", "RCPT TO:<a@b> NOTIFY=DELAY NOTIFY=DELAY"),
        *("RCPT TO:<a@b> NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;q+2Br", 'RCPT TO:"a b"@c', 'RCPT TO:<"q@r"@s>'),
        *("RCPT TO:<@route,@two:u@v>", "RCPT TO:Name <n@x>", "RCPT TO:postmaster", "RCPT TO:<(comment)x@y>"),
        *("DATA x", "DATA", " folded?", "From me", "x" * 3000, ".", "QUIT"),
    ],
    [
        *("NOOP", "NOOP x", "RSET", "RSET x", "VRFY", "VRFY a@b", "VRFY a b c", "VRFY <x> SMTPUTF8", "HELO", "EHLO"),
        *("HELO a b c", "DATA", "RCPT TO:<x>", "FOO", "", " ", "STARTTLS", "AUTH PLAIN x", "quit now"),
    ],
    ["MAIL FROM:<>", "DATA", "RCPT TO:<a@b>", "RSET", "DATA", "Subject: header"],
    ["MAIL FROM:<a@b>", "RCPT TO:<c@d>", "DATA", *["y" * 900] * 150, ".", "NOOP", "QUIT"],
    ["MAIL FROM:<a@b>", "RCPT TO:<c@d>", "DATA", "unfinished"],
    ["GET / HTTP/1.0"],
    ["EHLO x", "MAIL FROM:<d\xf6@x>", "MAIL FROM:<\udcff>", "QUIT"],
    [
        "EHLO x",
        "MAIL FROM:<a@b>",
        "RCPT TO:<c@d>",
        "BDAT 12",
        "Subject: x",
        "BDAT 9",
        "",
        "hello",
        "BDAT 0 LAST",
        "QUIT",
    ],
    ["EHLO x", "MAIL FROM:<a@b>", "RCPT TO:<c@d>", "BDAT 6 last", ".", "x", "BDAT 1", "MAIL FROM:<>", "BDAT x"],
    ["EHLO x", "BDAT 0", "MAIL FROM:<>", "BDAT 5", "abc", "BDAT 5 LAST", "abc", "MAIL FROM:<>", "BDAT 0 LAST", "QUIT"],
    ["EHLO x", "MAIL FROM:<>", "RCPT TO:<a@b>", "BDAT 3", "a", "DATA", "RCPT TO:<c@d>", "RSET", "BDAT 3 LAST", "b"],
    [
        "EHLO x",
        "ETRN",
        "ETRN @a.example",
        "ETRN #a",
        "ETRN [::1]",
        "ETRN a_b!",
        "MAIL FROM:<>",
        "ETRN a",
        "QUIT",
    ],
    ["EHLO x", "MAIL FROM:<a@b> BODY=7BIT", "RCPT TO:<c@d>", "DATA", ".", "VRFY <a b>", "NOOP " + "x" * 3000, "QUIT"],
]


def plain(text: str) -> str:
    """Without queue ids and times."""
    text = re.sub(r"\b[0-9A-F]{8,16}\b", "ID", text)
    return re.sub(r"\w{3}, \d\d? \w{3} 20\d\d .*", "DATE", text)


@pytest.mark.parametrize("talk", TALKS)
def test_same_conversation(place: Path, talk: list[str]) -> None:
    message = "".join(line + "\r\n" for line in talk).encode("utf-8", "surrogateescape")
    results = []
    for side in ("ours", "real"):
        status, out, err, files = run(place, side, ["-bs"], message)
        replies = [plain(line) for line in out.decode("utf-8", "surrogateescape").splitlines()]
        complaints = [line for line in err if "public/pickup" not in line]
        results.append((status, replies, complaints, [[plain(record) for record in file] for file in files]))
    assert results[0] == results[1]
