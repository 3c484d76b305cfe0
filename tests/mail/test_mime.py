"""The MIME machine, read as transcripts of events."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postfixpy.mail.mime import (
    MULTIPART,
    NESTED,
    PRIMARY,
    BodyEvent,
    EndOfBody,
    EndOfHeaders,
    ErrorEvent,
    Event,
    HeaderEvent,
    MimeMachine,
    Options,
    problem_text,
)

ALL = (
    Options.REPORT_8BIT_IN_7BIT_BODY
    | Options.REPORT_8BIT_IN_HEADER
    | Options.REPORT_ENCODING_DOMAIN
    | Options.REPORT_TRUNC_HEADER
    | Options.REPORT_NESTING
    | Options.REPORT_NON_EMPTY_EOH
)
BLOCKS = {PRIMARY: "main", MULTIPART: "part", NESTED: "nested"}


def show(event: Event) -> str:
    match event:
        case HeaderEvent(block, _, text):
            return f"{BLOCKS[block]} {text.decode('latin-1')}"
        case EndOfHeaders():
            return "end of headers"
        case BodyEvent(kind, text, offset):
            return f"body {kind} {offset} {text.decode('latin-1')}"
        case ErrorEvent(problem, _):
            return f"error {problem_text(problem)}"
        case EndOfBody():
            return "end"


def run(machine: MimeMachine, *lines: str | bytes) -> list[str]:
    out = []
    for line in lines:
        out += [show(e) for e in machine.feed("N", line.encode() if isinstance(line, str) else line)]
    return out + [show(e) for e in machine.finish()]


def test_plain_message() -> None:
    assert run(MimeMachine(), "Subject: a", "\tb", "To : c", "", "body", "more") == [
        "main Subject: a\n\tb",
        "main To: c",
        "end of headers",
        "body N 0 ",
        "body N 1 body",
        "body N 6 more",
        "end",
    ]


def test_text_in_place_of_a_header_gets_an_empty_line_before_it() -> None:
    assert run(MimeMachine(ALL), "A: b", "garbage", "C: d") == [
        "main A: b",
        "error primary header was terminated with non-empty line",
        "end of headers",
        "body N 0 ",
        "body N 0 garbage",
        "body N 8 C: d",
        "end",
    ]


def test_headers_only() -> None:
    assert run(MimeMachine(), "A: b") == ["main A: b", "end of headers", "end"]


def test_parts_and_attached_messages() -> None:
    assert run(
        MimeMachine(),
        "Content-Type: multipart/mixed; boundary=x",
        "",
        "preamble",
        "--x",
        "A: part",
        "",
        "text",
        "--x",
        "Content-Type: message/rfc822",
        "",
        "B: nested",
        "",
        "nested text",
        "--x--",
        "C: no header",
    ) == [
        "main Content-Type: multipart/mixed; boundary=x",
        "end of headers",
        "body N 0 ",
        "body N 1 preamble",
        "body N 10 --x",
        "part A: part",
        "body N 0 ",
        "body N 1 text",
        "body N 6 --x",
        "part Content-Type: message/rfc822",
        "body N 0 ",
        "nested B: nested",
        "body N 0 ",
        "body N 1 nested text",
        "body N 0 --x--",
        "body N 6 C: no header",
        "end",
    ]


def test_digest_parts_are_messages() -> None:
    out = run(MimeMachine(), 'Content-Type: Multipart/Digest; boundary="x y"', "", "--x y", "", "A: b")
    assert out[-2:] == ["nested A: b", "end"]


def test_every_boundary_counts() -> None:
    head = "Content-Type: multipart/mixed; boundary=one; boundary=(comment)two"
    for name in ("one", "two"):
        assert "part A: b" in run(MimeMachine(), head, "", f"--{name}", "A: b", "")


def test_disable_mime_sees_only_the_primary_headers() -> None:
    out = run(MimeMachine(Options.DISABLE_MIME), "Content-Type: multipart/mixed; boundary=x", "", "--x", "A: b", "")
    assert out[3:] == ["body N 1 --x", "body N 5 A: b", "body N 10 ", "end"]


def test_downgrade() -> None:
    out = run(
        MimeMachine(Options.DOWNGRADE),
        "Content-Transfer-Encoding: 8bit",
        "Subject: x",
        "",
        b"caf\xe9 = good ",
        "x" * 80,
    )
    assert out == [
        "main Subject: x",
        "main Content-Transfer-Encoding: quoted-printable",
        "end of headers",
        "body N 0 ",
        "body N 1 caf=E9 =3D good=20",
        "body N 20 " + "x" * 73 + "=",
        "body N 95 " + "x" * 7,
        "end",
    ]


def test_downgrade_of_multipart_says_7bit() -> None:
    out = run(
        MimeMachine(Options.DOWNGRADE),
        "Content-Type: multipart/mixed; boundary=x",
        "Content-Transfer-Encoding: 8bit",
        "",
        b"pre\xe9",
        "--x",
        "Content-Transfer-Encoding: 8bit",
        "",
        b"\xe9",
        "--x--",
    )
    assert out == [
        "main Content-Type: multipart/mixed; boundary=x",
        "main Content-Transfer-Encoding: 7bit",
        "end of headers",
        "body N 0 ",
        "body N 1 pre\xe9",
        "body N 6 --x",
        "part Content-Transfer-Encoding: quoted-printable",
        "body N 0 ",
        "body N 1 =E9",
        "body N 0 --x--",
        "end",
    ]


def test_each_problem_is_reported_once_and_only_if_asked() -> None:
    message = (b"A: \xe9", b"B: \xe9", b"", b"\xe9", b"\xe9")
    assert [line for line in run(MimeMachine(ALL), *message) if line.startswith("error")] == [
        "error improper use of 8-bit data in message header",
        "error improper use of 8-bit data in message body",
    ]
    assert not [line for line in run(MimeMachine(), *message) if line.startswith("error")]


@pytest.mark.parametrize(
    ("content_type", "encoding", "bad"),
    [
        ("message/rfc822", "base64", True),
        ("message/rfc822", "8bit", False),
        ("message/partial", "8bit", True),
        ("message/global", "base64", False),
        ("multipart/mixed", "quoted-printable", True),
        ("text/plain", "base64", False),
    ],
)
def test_encoding_domains(content_type: str, encoding: str, bad: bool) -> None:
    out = run(MimeMachine(ALL), f"Content-Type: {content_type}", f"Content-Transfer-Encoding: {encoding}", "", "x")
    assert ("error invalid message/* or multipart/* encoding domain" in out) == bad


def test_nesting_limit() -> None:
    machine = MimeMachine(ALL, nesting_limit=2)
    lines = []
    for depth in range(6):
        lines += [f"Content-Type: multipart/mixed; boundary=x{depth}", "", f"--x{depth}"]
    out = run(machine, *lines)
    assert "error MIME nesting exceeds safety limit" in out
    assert "body N 0 --x4" not in out


def test_long_header_is_cut_at_the_limit() -> None:
    machine = MimeMachine(ALL, header_limit=10)
    out = run(machine, "A: 12345678", " 9", " 10", "B: c", "", "x")
    assert out[:3] == ["error message header length exceeds safety limit", "main A: 12345678", "main B: c"]


def test_long_lines_come_in_pieces() -> None:
    machine = MimeMachine()
    out = [show(e) for e in machine.feed("L", b"A: b")]
    out += [show(e) for e in machine.feed("L", b"B: still A")]
    out += [show(e) for e in machine.feed("N", b" end")]
    out += [show(e) for e in machine.feed("L", b"")]
    out += [show(e) for e in machine.feed("L", b"--x")]
    out += [show(e) for e in machine.finish()]
    assert out == [
        "main A: bB: still A end",
        "end of headers",
        "body L 0 ",
        "body L 1 --x",
        "body N 5 ",
        "end",
    ]


def test_nul_ends_a_header_line_but_not_a_body_line() -> None:
    assert run(MimeMachine(), b"A: b\0c", b"", b"d\0e")[0::3] == ["main A: b", "body N 1 d\0e"]


texts = st.lists(
    st.one_of(
        st.binary(max_size=90).map(lambda b: b.replace(b"\n", b"")),
        st.sampled_from(
            [
                b"",
                b"Content-Type: multipart/mixed; boundary=a",
                b'content-type:multipart/digest;boundary="b"; boundary=c',
                b"Content-Type: message/rfc822",
                b"Content-Type: message/global",
                b"Content-Transfer-Encoding: 8bit",
                b"Content-Transfer-Encoding: base64",
                b"--a",
                b"--b--",
                b" folded\xe9",
                b"\xe9" * 40,
            ]
        ),
    ),
    max_size=40,
)


@given(texts)
def test_without_conversion_nothing_is_lost(lines: list[bytes]) -> None:
    """Headers and body together are the input, up to NUL and blanks around colons, and one inserted empty line."""
    machine = MimeMachine(ALL)
    out: list[bytes] = []
    for event in [e for line in lines for e in machine.feed("N", line)] + list(machine.finish()):
        if isinstance(event, HeaderEvent):
            out += event.text.split(b"\n")
        elif isinstance(event, BodyEvent):
            out.append(event.text)

    def normal(line: bytes) -> bytes:
        return re.sub(rb"^([!-9;-~]+)[ \t]*:[ \t]*", rb"\1:", line.partition(b"\0")[0])

    got, want = [normal(line) for line in out], [normal(line) for line in lines]
    if len(got) == len(want) + 1:
        got.remove(b"")
        if b"" in want:
            want.remove(b"")
            got = [line for line in got if line]
            want = [line for line in want if line]
    assert got == want


@given(texts, st.integers(0, 255))
def test_offsets_and_order(lines: list[bytes], options: int) -> None:
    machine = MimeMachine(options)
    events = [e for line in lines for e in machine.feed("N", line)] + list(machine.finish())
    assert sum(isinstance(e, EndOfHeaders) for e in events) == 1
    assert sum(isinstance(e, EndOfBody) for e in events) == 1
    assert isinstance(events[-1], EndOfBody)
    errors = [e.problem for e in events if isinstance(e, ErrorEvent)]
    assert len(errors) == len(set(errors))


@given(st.binary(max_size=400).map(lambda b: b.replace(b"\n", b"")))
def test_quoted_printable_is_decoded_by_the_standard_library(line: bytes) -> None:
    import quopri

    machine = MimeMachine(Options.DOWNGRADE)
    list(machine.feed("N", b"Content-Transfer-Encoding: binary"))
    list(machine.feed("N", b""))
    out = [e.text for e in machine.feed("N", line) if isinstance(e, BodyEvent)]
    assert all(len(text) <= 76 and text.isascii() for text in out)
    assert quopri.decodestring(b"\n".join(out)) == line


@given(texts, texts)
def test_plain_text_passes_unseen(before: list[bytes], after: list[bytes]) -> None:
    """What `plain` lets through gives the same events as feeding it."""
    seen, unseen = MimeMachine(ALL), MimeMachine(ALL)
    for line in before:
        assert list(seen.feed("N", line)) == list(unseen.feed("N", line))
    block = b"\n".join(after)
    if unseen.plain(block):
        events = [e for line in after for e in seen.feed("N", line)]
        assert [e.text for e in events if isinstance(e, BodyEvent)] == after
        unseen.skip(sum(len(line) + 1 for line in after), continued=False)
        assert list(seen.feed("N", b"next")) == list(unseen.feed("N", b"next"))


def test_blocks_are_cheap() -> None:
    """A body of 20,000 lines is passed or refused as a whole."""
    machine = MimeMachine()
    run_header = [b"Content-Type: multipart/mixed; boundary=xyzzy", b"", b"--xyzzy", b"", b""]
    for line in run_header:
        list(machine.feed("N", line))
    block = b"\n".join([b"x" * 70] * 20000)
    assert machine.plain(block)
    assert not machine.plain(block + b"\n--xyzzy--")
