"""sendmail(1): options, texts and exit codes, and the maildrop file of each kind of submission."""

import io
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from postfixpy.commands import sendmail
from postfixpy.mail.records import RecordFile

MAIN = """\
compatibility_level = 3.11
myhostname = mail.example.com
queue_directory = {directory}
maillog_file = {directory}/log
maillog_file_prefixes = /
inet_interfaces = 127.0.0.1
"""


class Place:
    """A configuration and a queue in a temporary directory."""

    def __init__(self, directory: Path, monkeypatch: pytest.MonkeyPatch, capfd: Any) -> None:
        self.directory = directory
        self._monkeypatch = monkeypatch
        self._capfd = capfd
        for name in ("maildrop", "public"):
            (directory / name).mkdir()
        self.configure()

    def configure(self, *lines: str) -> None:
        text = MAIN.format(directory=self.directory) + "".join(line + "\n" for line in lines)
        (self.directory / "main.cf").write_text(text)

    def run(self, *arguments: str, message: bytes = b"", name: str = "sendmail") -> tuple[int, str, str]:
        """Exit status, standard output and error of one call."""
        read, write = os.pipe()
        if len(message) < 60000:
            os.write(write, message)
            os.close(write)
        saved, here = os.dup(0), os.getcwd()
        os.dup2(read, 0)
        os.close(read)
        self._monkeypatch.setenv("MAIL_CONFIG", str(self.directory))
        try:
            self._capfd.readouterr()
            status = sendmail.main([name, *arguments])
            out, err = self._capfd.readouterr()
        finally:
            os.dup2(saved, 0)
            os.close(saved)
            os.chdir(here)
        return status, out, err

    def files(self) -> list[list[str]]:
        """The records of the files in the maildrop queue, without arrival time and full name."""
        found = []
        for path in sorted((self.directory / "maildrop").iterdir()):
            assert path.stat().st_mode & 0o777 == 0o744
            with path.open("rb") as file:
                records = [r.kind + r.payload.decode("utf-8", "surrogateescape") for r in RecordFile(file, str(path))]
            found.append([record for record in records if record[0] not in "TF"])
            path.unlink()
        return found

    def post(self, *arguments: str, message: bytes = b"Subject: x\n\nbody\n") -> list[str]:
        """The records of the one file that a good submission leaves."""
        status, _, err = self.run("-f", "me@example.com", *arguments, message=message)
        assert status == 0, err
        [records] = self.files()
        return records


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: Any) -> Place:
    return Place(tmp_path, monkeypatch, capfd)


HEAD = ["Arewrite_context=local", "Sme@example.com"]


def test_a_submission(place: Place) -> None:
    assert place.post("a@b", "Name <c@d>, e") == [
        *HEAD,
        "Ra@b",
        "Rc@d",
        "Re",
        "M",
        "NSubject: x",
        "N",
        "Nbody",
        "X",
        "E",
    ]


def test_the_arrival_time_comes_first_and_is_ours(place: Place) -> None:
    assert place.run("-f", "a@b", "c@d", message=b"x\n")[0] == 0
    [path] = (place.directory / "maildrop").iterdir()
    assert path.read_bytes()[:1] == b"T"


def test_options_become_records(place: Place) -> None:
    records = place.post(
        "-G", "-B", "8BITMIME", "-V", "env", "-R", "hdrs", "-N", "success,delay", "-XV", "-F", "x", "a@b"
    )
    assert records[: records.index("M")] == [
        "Aenvelope_id=env",
        "Aret_flags=2",
        "Arewrite_context=remote",
        "Sme@example.com",
        "Aencoding=8bit",
        "V+=",
        "Anotify_flags=10",
        "Ra@b",
    ]


def test_smtputf8_and_requiretls_options(place: Place) -> None:
    records = place.post("-O", "SMTPUTF8=yes", "a@b")
    assert records[0].startswith("C") and records[0].split()[-1] == "1"
    place.configure("smtputf8_enable = no")
    _, _, err = place.run("-O", "SMTPUTF8=yes", "-f", "x", "a@b", message=b"x\n")
    assert "sendmail: warning: '-O SMTPUTF8=yes' was requested, but the configuration is 'smtputf8_enable = no'" in err


def test_verbose_and_verify(place: Place) -> None:
    status, out, _ = place.run("-v", "-f", "me@x", "a@b", message=b"x\n")
    assert (status, out) == (0, "Mail Delivery Status Report will be mailed to <me@x>.\n")
    assert "Atrace_flags=1024" in place.files()[0]
    assert place.run("-bv", "-f", "me@x", "a@b", "c@d")[0] == 0
    [records] = place.files()
    assert records[records.index("M") :] == [
        "M",
        "NFrom: me@x",
        "NSubject: probe",
        "LTo:",
        "N\ta@b,",
        "N\tc@d",
        "X",
        "E",
    ]


def test_recipients_from_headers(place: Place) -> None:
    message = b'To: a, "B (x)" <b@x>\nCc:\n c@d (comment)\nBcc: e\nSubject: To: no\n\nTo: not@this\n'
    records = place.post("-t", "extra", message=message)
    assert records[records.index("X") :] == ["X", "Ra", "Rb@x", "Rc@d", "Re", "E"]
    assert records[2] == "Rextra"
    content = records[records.index("M") + 1 : records.index("X")]
    assert "\n".join(line[1:] for line in content).encode() + b"\n" == message


def test_resent_headers_win(place: Place) -> None:
    records = place.post("-t", message=b"To: a\nResent-To: b\nCc: c\nResent-Cc: d\n\nx\n")
    assert records[records.index("X") :] == ["X", "Rb", "Rd", "E"]


def test_extraction_keeps_long_lines_and_the_missing_newline(place: Place) -> None:
    records = place.post("-t", message=b"To: a\nX: " + b"y" * 3000 + b"\n\nlast")
    assert [(r[0], len(r) - 1) for r in records[3:9]] == [
        ("N", 5),
        ("L", 2048),
        ("N", 955),
        ("N", 0),
        ("L", 4),
        ("N", 0),
    ]


@pytest.mark.parametrize(
    ("message", "content"),
    [
        (b"a\nb\n.\nc\n", ["Na", "Nb"]),
        (b"a\n..\n", ["Na", "N.."]),
        (b"a\nb", ["Na", "Lb"]),
        (b"From x\n>From y\n>>>From z\nSubject: a\nFrom b\n", ["NSubject: a", "NFrom b"]),
        (b"a\r\nb\r\n.\r\nc\r\n", ["Na", "Nb"]),
        (b"a\nb\r\n", ["Na", "Nb"]),
        (b"a\r\nb\r\r\nc\n", ["Na", "Nb", "Nc"]),
        (b"", []),
        (b"x" * 2048 + b"\ny\n", ["L" + "x" * 2048, "N", "Ny"]),
        (b"x" * 5000 + b"\n", ["L" + "x" * 2048, "L" + "x" * 2048, "N" + "x" * 904]),
    ],
)
def test_lines(place: Place, message: bytes, content: list[str]) -> None:
    records = place.post("a@b", message=message)
    assert records[records.index("M") + 1 : records.index("X")] == content


def test_dot_is_text_with_i(place: Place) -> None:
    for option in ("-i", "-oi"):
        records = place.post(option, "a@b", message=b"a\n.\nb\n")
        assert records[-5:] == ["Na", "N.", "Nb", "X", "E"]


def test_line_ending_policies(place: Place) -> None:
    place.configure("sendmail_fix_line_endings = never")
    assert place.post("a@b", message=b"a\r\n")[-3] == "Na\r"
    place.configure("sendmail_fix_line_endings = strict")
    assert place.post("a@b", message=b"a\nb\r\n")[-3] == "Nb\r"
    place.configure("sendmail_fix_line_endings = maybe")
    assert place.run("a@b", message=b"a\n")[0] == 75


def test_large_input_is_copied_whole(place: Place) -> None:
    message = (
        b"".join(b"line %d\r\n" % n + b"y" * (n % 300) + b"\r\n" for n in range(20000)) + b"." * 3000 + b"\r\n.x\r\n"
    )
    program = "import sys; from postfixpy.commands.sendmail import main; sys.exit(main(['sendmail', '-f', 'a', 'b@c']))"
    done = subprocess.run(
        [sys.executable, "-c", program],
        input=message,
        env={**os.environ, "MAIL_CONFIG": str(place.directory), "PYTHONPATH": os.getcwd()},
        capture_output=True,
    )
    assert done.returncode == 0, done.stderr
    [records] = place.files()
    content = records[records.index("M") + 1 : records.index("X")]
    text = "".join(line[1:] + ("\n" if line[0] == "N" else "") for line in content)
    assert text.encode() == message.replace(b"\r\n", b"\n")


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["-n", "a@b"], "-n option not supported"),
        (["-B", "x", "a@b"], "-B option needs 8BITMIME or 7BIT"),
        (["-bz"], "unsupported: -bz"),
        (["-Xz"], "unsupported: -Xz"),
        (["-XVabc", "a@b"], "-V requires two characters from -=+"),
        (["-qx"], "-qx is not implemented"),
        (["-qR"], "specify: -qRsitename"),
        (["-qI"], "specify: -qIqueueid"),
        (["-oA"], "-oA requires pathname"),
        (["-t", "-bp"], "-t can be used only in delivery mode"),
        (["-qRx", "-bp"], "-qR can be used only in delivery mode"),
        (["-qIx", "-bp"], "-qI can be used only in delivery mode"),
        (["-bv", "-t"], "-t option cannot be used with -bv"),
        (["-bv", "-N", "never"], "-N option cannot be used with -bv"),
        (["-bv", "-R", "full"], "-R option cannot be used with -bv"),
        (["-bv", "-v"], "-v option cannot be used with -bv"),
        (["-bp", "a@b"], "display queue mode requires no recipient"),
        (["-q", "a@b"], "flush queue mode requires no recipient"),
        (["-qRsite", "a@b"], "flush site requires no recipient"),
        (["-qIid", "a@b"], "flush queue_id requires no recipient"),
        (["-bi", "a@b"], "alias initialization mode requires no recipient"),
        (["-bd", "a@b"], "daemon mode requires no recipient"),
        (["-bs", "a@b"], "stand-alone mode requires no recipient"),
        (["-Z"], "usage: sendmail [options]"),
        (["-f"], "usage: sendmail [options]"),
        (["-f", "x"], "x(%d): Recipient addresses must be specified on the command line or via the -t option"),
        (["-f", "x", "-t"], "x(%d): No recipient addresses found in message header"),
        (["-f", "", "-XV", "a@b"], "(%d): -V option requires non-null sender address"),
    ],
)
def test_usage_errors(place: Place, arguments: list[str], text: str) -> None:
    """The exit status is 75 for everything, as the real one's."""
    got, out, err = place.run(*arguments, message=b"Subject: x\n\n")
    assert (got, out) == (75, "")
    assert err.splitlines()[-1] == f"sendmail: fatal: {text % os.getuid() if '%d' in text else text}"
    assert place.files() == []


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["-N", "sometimes"], "bad -N option value: 'sometimes' -- ignored"),
        (["-R", "none"], "bad -R option value -- ignored"),
        (["-V", "x" * 101], "too long -V option value -- ignored"),
        (["-V", ""], "bad syntax in -V option value -- ignored"),
        (["-V", "\x01xyz"], "bad syntax in -V option value -- ignored"),
        (["-V", "+="], "option -V is deprecated with Postfix 2.3; specify -XV instead"),
        (["-V+="], "option -V+= is deprecated with Postfix 2.3; specify -XV+= instead"),
        (["-f", "a, b"], "-f option specified malformed sender: a, b"),
        (["-O", "SMTPUTF8=maybe"], "bad -O option: 'SMTPUTF8=maybe' -- ignored"),
    ],
)
def test_warnings(place: Place, arguments: list[str], text: str) -> None:
    status, _, err = place.run("-f", "me@x", *arguments, "a@b", message=b"x\n")
    assert f"sendmail: warning: {text}\n" in err
    assert status == 0


def test_every_letter_that_is_no_option_is_named(place: Place) -> None:
    _, _, err = place.run("-dash@d.example", "-Z")
    said = [line for line in err.splitlines() if "invalid option" in line]
    assert said == [f"sendmail: invalid option -- '{letter}'" for letter in "dasZd"]


def test_old_options_are_told_of_before_main_cf_is_read(place: Place) -> None:
    (place.directory / "main.cf").write_text("soft_bounce = maybe\n")
    status, _, err = place.run("-V", "+=", "-f", "me@x", "a@b", message=b"x\n")
    assert (status, err) == (
        75,
        "sendmail: warning: option -V is deprecated with Postfix 2.3; specify -XV instead\n"
        "sendmail: fatal: bad boolean configuration: soft_bounce = maybe\n",
    )


@pytest.mark.parametrize("arguments", [["-bh"], ["-q30m"], ["-bH"]])
def test_things_that_mean_nothing(place: Place, arguments: list[str]) -> None:
    assert place.run(*arguments) == (0, "", "")


def test_ignored_options(place: Place) -> None:
    ignored = [
        "-A",
        "x",
        "-L",
        "tag",
        "-U",
        "-c",
        "-e",
        "m",
        "-h",
        "3",
        "-m",
        "-p",
        "x",
        "-x",
        "-o8",
        "-o7",
        "-om",
        "-oem",
    ]
    assert place.post(*ignored, "--", "-dash@x")[2] == "R-dash@x"


def test_sender_forms(place: Place) -> None:
    for sender, record in (("Name <u@x>", "Su@x"), ("", "S"), ("<>", "S"), ('"a b"@c', "Sa b@c")):
        assert place.run("-f", sender, "a@b", message=b"x\n")[0] == 0
        assert place.files()[0][1] == record


def test_who_may_submit(place: Place) -> None:
    place.configure("authorized_submit_users = !static:all")
    status, _, err = place.run("a@b", message=b"x\n")
    assert status == 75
    assert err.startswith("sendmail: fatal: User ") and err.endswith("is not allowed to submit mail\n")


def test_sender_addresses_of_users(place: Place) -> None:
    place.configure("local_login_sender_maps = static:{me@example.com, @ok.example}", "recipient_delimiter = +")
    for sender in ("me@example.com", "Me+ext@example.com", "x@OK.example"):
        assert place.run("-f", sender, "a@b", message=b"x\n")[0] == 0, sender
    for sender in ("you@example.com", "", "me"):
        status, _, err = place.run("-f", sender, "a@b", message=b"x\n")
        assert status == 75
        assert err == (f"sendmail: fatal: {sender}({os.getuid()}): not authorized to use sender='{sender}'\n")
    place.configure("local_login_sender_maps = fail:x")
    status, _, err = place.run("-f", "x@y", "a@b", message=b"x\n")
    assert (status, err.splitlines()[-1]) == (
        75,
        f"sendmail: fatal: x@y({os.getuid()}): local_login_sender_maps table lookup error for 'fail:x'",
    )


def test_message_size_limit(place: Place) -> None:
    place.configure("message_size_limit = 1000")
    status, _, err = place.run("-f", "x", "a@b", message=b"y" * 2000)
    assert status == 75
    assert err.splitlines() == [
        f"postdrop: warning: uid={os.getuid()}: File too large",
        "sendmail: warning: mail_stream_cleanup: close error",
        f"sendmail: fatal: x({os.getuid()}): message file too big",
    ]
    assert place.files() == []


def test_no_queue(place: Place) -> None:
    place.configure("queue_directory = /no/such/directory")
    status, _, err = place.run("a@b", message=b"x\n")
    assert status == 75
    assert err.endswith("sendmail: fatal: chdir /no/such/directory: No such file or directory\n")


def test_no_pickup_is_only_a_warning(place: Place) -> None:
    status, _, err = place.run("-f", "x", "a@b", message=b"x\n")
    assert status == 0
    assert err == "postdrop: warning: unable to look up public/pickup: No such file or directory\n"


def test_configuration_option(place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place.configure("message_size_limit = 10")
    os.mkdir(tmp_path / "other")
    (tmp_path / "other/main.cf").write_text(MAIN.format(directory=tmp_path))
    for path in (tmp_path / "other", tmp_path / "other/main.cf"):
        assert place.run("-C", str(path), "-f", "x", "a@b", message=b"long enough\n")[0] == 0


def test_input_that_cannot_be_read(place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fd = os.open(tmp_path, os.O_RDONLY)  # a directory
    saved = os.dup(0)
    os.dup2(fd, 0)
    here = os.getcwd()
    monkeypatch.setenv("MAIL_CONFIG", str(tmp_path))
    error = io.StringIO()
    monkeypatch.setattr(sys, "stderr", error)
    try:
        status = sendmail.main(["sendmail", "-f", "x", "a@b"])
    finally:
        os.dup2(saved, 0)
        os.close(saved)
        os.close(fd)
        os.chdir(here)
    assert status == 75
    assert error.getvalue() == f"sendmail: fatal: x({os.getuid()}): error reading input: Is a directory\n"
    assert place.files() == []


def test_modes_by_name(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[list[str]] = []

    def other(module: str, argv: list[str], options: sendmail.Options) -> int:
        calls.append([module, *argv])
        return 0

    monkeypatch.setattr(sendmail, "_other", other)
    assert place.run(name="/usr/bin/mailq")[0] == 0
    assert place.run(name="newaliases")[0] == 0
    assert place.run("-q")[0] == 0
    assert place.run("-qRsite")[0] == 0
    assert place.run("-qIABC")[0] == 0
    assert place.run("-bi", "-oA/my/aliases")[0] == 0
    assert place.run("-bd", "-q1h")[0] == 0
    assert calls == [
        ["postqueue", "postqueue", "-p"],
        ["postalias", "postalias", "--", *calls[1][3:]],
        ["postqueue", "postqueue", "-f"],
        ["postqueue", "postqueue", "-s", "site"],
        ["postqueue", "postqueue", "-i", "ABC"],
        ["postalias", "postalias", "--", "/my/aliases"],
        ["postfix", "postfix", "start"],
    ]


def test_it_starts_without_asyncio() -> None:
    program = "import sys, postfixpy.commands.sendmail, postfixpy.commands.submission; print('asyncio' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


@pytest.mark.parametrize(
    ("arguments", "kind"),
    [
        (("-f", "me@x", "a" * 3000 + "@b"), "R"),
        (("-f", "a" * 3000 + "@b", "you@x"), "S"),
        (("-f", "me@x", "-F", "a" * 3002, "you@x"), "F"),
        (("-f", "me@x", "-t"), "R"),
    ],
)
def test_what_pickup_could_not_read_is_refused(place: Place, arguments: tuple[str, ...], kind: str) -> None:
    message = b"To: " + b"a" * 3000 + b"@b\n\n"
    status, _, err = place.run(*arguments, message=message)
    assert (status, place.files()) == (75, [])
    who = "a" * 3000 + "@b" if kind == "S" else "me@x"
    assert err.splitlines() == [
        f"postdrop: warning: stdin: illegal length 3002, record type {ord(kind)}",
        f"postdrop: fatal: uid={os.getuid()}: malformed input",
        "sendmail: warning: mail_stream_cleanup: close error",
        f"sendmail: fatal: {who}({os.getuid()}): queue file write error",
    ]


def test_old_texts_of_an_old_release(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    bad = ("-N", "never,success", "-f", "me@x", "a@b")
    assert "sendmail: warning: bad -N option value: 'never,success' -- ignored\n" in place.run(*bad)[2]
    place.configure("compatibility_level = 3.6")
    monkeypatch.setenv("POSTFIXPY_VERSION", "3.7")
    assert "sendmail: warning: bad -N option value -- ignored\n" in place.run(*bad)[2]


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("-Z", "a@b"), "fatal: usage: sendmail [options]"),
        (("-bz",), "fatal: unsupported: -bz"),
        (("-f", "me@x"), "warning: -f option specified malformed sender: "),
        (("-V", "+=", "-f", "me@x", "a@b"), "warning: option -V is deprecated with Postfix 2.3; specify -XV instead"),
    ],
)
def test_what_goes_wrong_is_in_the_mail_log_too(place: Place, arguments: tuple[str, ...], text: str) -> None:
    import socket

    if "malformed" in text:
        arguments = ("-f", "a b, c", "d@e")
        text += "a b, c"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as postlogd:
        postlogd.bind(str(place.directory / "public/postlog"))
        postlogd.setblocking(False)
        assert f"sendmail: {text}\n" in place.run(*arguments, message=b"x\n")[2]
        logged = []
        try:
            while True:
                logged.append(postlogd.recv(4096).decode())
        except BlockingIOError:
            pass
    assert any(f" postfix/sendmail[{os.getpid()}]: {text}" in line for line in logged), logged


def test_a_user_without_a_name(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getuid", lambda: 54321)
    status, _, err = place.run("a@b", message=b"x\n")
    assert (status, err.splitlines()) == (
        75,
        [
            "sendmail: warning: a user without a name gives the sender with -f",
            "sendmail: fatal: no login name found for user ID 54321",
        ],
    )
