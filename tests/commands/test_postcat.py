import contextlib
import io
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postfixpy import log
from postfixpy.commands.postcat import Show
from postfixpy.errors import FatalError
from postfixpy.mail import records
from postfixpy.mail.records import Kind, encode_record

from .queue_runner import T, message

ROOT = Path(__file__).parents[2]
SIZES = f"{1:15} {0:15} {19:15} {0:15}"
WHEN = time.asctime(time.localtime(T))


def show(site, data, *options):
    (site.directory / "m").write_bytes(data)
    return site.run("postcat", *options, "m")


def test_everything(site):
    result = show(site, message())
    assert result.err == ""
    assert result.out == (
        "*** ENVELOPE RECORDS m ***\n"
        f"message_size: {39:15} {210:15} {SIZES}\n"
        f"message_arrival_time: {WHEN}\n"
        f"create_time: {WHEN}\n"
        "sender: sender@example.org\n"
        "original_recipient: orig-a@example.com\n"
        "recipient: a@example.com\n"
        "*** MESSAGE CONTENTS m ***\n"
        "Subject: hi\n"
        "\n"
        "hello\n"
        "*** HEADER EXTRACTED m ***\n"
        "*** MESSAGE FILE END m ***\n"
    )


def test_parts(site):
    data = message(content=(b"Subject: hi", b" there", b"To: x", b"", b"a: b", b"hello"))
    assert show(site, data, "-h").out == "Subject: hi\n there\nTo: x\n"
    assert show(site, data, "-b").out == "\na: b\nhello\n"
    assert show(site, data, "-bh").out == "Subject: hi\n there\nTo: x\n\na: b\nhello\n"
    envelope = show(site, data, "-e").out
    assert "sender: sender@example.org\n" in envelope
    assert "*** MESSAGE CONTENTS m ***\n*** HEADER EXTRACTED m ***\n" in envelope
    assert show(site, data, "-eh").out.endswith(
        "*** MESSAGE CONTENTS m ***\nSubject: hi\n there\nTo: x\n"
        "*** HEADER EXTRACTED m ***\n*** MESSAGE FILE END m ***\n"
    )


def test_prefixes(site):
    lines = show(site, message(), "-o").out.splitlines()
    assert lines[1].startswith("        0 message_size: ")
    assert lines[2].startswith("       97 message_arrival_time: ")
    lines = show(site, message(), "-d").out.splitlines()
    assert lines[1].startswith(" 67 message_size: ")
    assert lines[-1] == " 69 *** MESSAGE FILE END m ***"
    assert show(site, message(), "-f").out.splitlines()[1].startswith("m: message_size: ")


def test_verbose_shows_pointers_and_padding_and_types(site):
    data = message(first=records.encode_padding(Kind.PADDING, 8), content=(b"a: b", b"", b"x"))
    out = show(site, data, "-v").out
    assert "padding:      0\n" in out
    assert "pointer_record:               0\n" in out
    assert "regular_text: a: b\nregular_text: \nregular_text: x\n" in out
    assert "padding" not in show(site, data).out


def test_long_lines(site):
    content = encode_record("L", b"a" * 5) + encode_record("N", b"b")
    data = message(content=()).replace(b"p\x0f              0X\x00", content + b"X\x00")
    assert "\naaaaab\n" in show(site, data).out
    assert "\nunterminated_text: aaaaa\nregular_text: b\n" in show(site, data, "-v").out


def test_content_keeps_every_byte(site):
    (site.directory / "m").write_bytes(message(content=(b"s: x", b"", b"\xff\x00\r\xc3\xa9 end")))
    program = "import sys; from postfixpy.commands.postcat import main; sys.exit(main(sys.argv))"
    arguments = ["-c", str(site.directory / "etc"), "-b", "m"]
    run = subprocess.run(
        [sys.executable, "-c", program, *arguments], capture_output=True, env={"PYTHONPATH": str(ROOT)}
    )
    assert run.stdout == b"\n\xff\x00\r\xc3\xa9 end\n"


@pytest.mark.parametrize(
    ("data", "text", "status"),
    [
        (b"garbage", "postcat: warning: m: input is not a valid queue file\n", 0),
        (b"", "", 0),
        (
            b"S\x09abc",
            "postcat: warning: m: unexpected EOF in data, record type 83 length 9\npostcat: fatal: record read error\n",
            1,
        ),
        (
            b"C\xff\xff\xff\xff\xff",
            "postcat: warning: m: too many length bits, record type 67\npostcat: fatal: record read error\n",
            1,
        ),
        (b"S\x01aX\x00", "postcat: warning: m: out-of-order extracted segment marker\n", 0),
        (b"S\x01aM\x00M\x00", "postcat: warning: m: out-of-order message content marker\n", 0),
        (b"S\x01aM\x00E\x00", "postcat: warning: m: out-of-order message end marker\n", 0),
        (b"A\x03abc", "postcat: warning: m: malformed attribute: missing '=' after attribute name: abc\n", 0),
        (
            encode_record("p", b"      x"),
            "postcat: warning: m: malformed pointer record value: x\npostcat: fatal: record read error\n",
            1,
        ),
        (encode_record("C", b"1 2 3"), "", 0),
        (encode_record("C", b"x"), "postcat: warning: invalid size record: x\n", 0),
    ],
)
def test_damaged_files(site, data, text, status):
    result = show(site, data)
    if data[:1] == b"p":
        text = "postcat: warning: m: input is not a valid queue file\n"
        status = 0
    assert (result.err, result.status) == (text, status)


def test_what_was_read_before_the_damage_is_shown(site):
    result = show(site, message()[:150])
    assert result.status == 1
    assert "message_arrival_time" in result.out


def test_by_id(site):
    queue_id = site.add("deferred")
    path = site.queue.path("deferred", queue_id)
    result = site.run("postcat", "-qe", queue_id)
    assert result.out.startswith(f"*** ENVELOPE RECORDS {path} ***\n")
    assert (
        site.run("postcat", "-q", "ABCDEF").err == "postcat: fatal: open queue file ABCDEF: No such file or directory\n"
    )
    assert site.run("postcat", "-q", "../x").err == "postcat: fatal: bad mail queue ID: ../x\n"


def test_offset(site):
    assert show(site, message(), "-s", "97").out.startswith("message_arrival_time: ")
    assert show(site, message(), "-s", "x").err == "postcat: fatal: bad offset: x\n"


def test_usage(site):
    result = site.run("postcat", "-z")
    assert result.status == 1
    assert result.err.startswith("postcat: invalid option -- 'z'\npostcat: fatal: usage: postcat [-b (body text)]")
    assert site.run("postcat", "/no/such").err == "postcat: fatal: open /no/such: No such file or directory\n"


def compare(site, data, options):
    (site.directory / "m").write_bytes(data)
    arguments = [*options.split(), "m"]
    etc = str(site.directory / "etc")
    real = subprocess.run(["postcat", "-c", etc, *arguments], capture_output=True, text=True)
    ours = site.run("postcat", *arguments)
    assert (ours.out, ours.err, ours.status) == (real.stdout, real.stderr, real.returncode)


@pytest.mark.real
@pytest.mark.parametrize("options", ["", "-e", "-h", "-b", "-eh", "-ehb", "-o", "-d", "-do", "-s 97"])
def test_same_as_the_real_one(site, options):
    long = message(content=(b"a: b", b" c", b"", b"x" * 3000), extracted=encode_record("R", b"more@example.com"))
    for data in (message(), message(recipients=()), long):
        compare(site, data, options)


@pytest.mark.real
def test_same_as_the_real_one_for_damaged_files(site):
    for data in (
        b"",
        b"junk",
        b"S\x09ab",
        message()[:200],
        message().replace(b"M\x00", b"X\x00"),
    ):  # each takes the real one a second
        compare(site, data, "")


@given(
    st.lists(st.tuples(st.sampled_from("CTASRpwMNLXE"), st.binary(max_size=30)), max_size=12),
    st.binary(max_size=10),
    st.sets(st.sampled_from("behoduvr")),
)
def test_any_file_is_shown_or_refused(some, tail, letters):
    data = b"".join(encode_record(*record) for record in some) + tail
    out = io.TextIOWrapper(io.BytesIO())
    previous = log.set_sink(lambda severity, text: None)
    try:
        with contextlib.redirect_stdout(out):
            Show(letters).file(io.BytesIO(data), "m")
    except FatalError as error:
        assert str(error) in (
            "record read error",
            "bad pointer record, or input is not seekable",
            "seek error: Invalid argument",
        )
    finally:
        log.set_sink(previous)
