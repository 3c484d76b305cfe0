"""Parts of cleanup that are easier to see alone: full names, runs of records, flow control, small parsers."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postfixpy.mail.records import RecordParser, encode_record
from postfixpy.services.cleaning.content import text_run
from postfixpy.services.cleaning.flow import FlowControl
from postfixpy.services.cleaning.missing import encode_words, full_name_text
from postfixpy.services.cleaning.releases import complete
from postfixpy.services.cleaning.settings import unescape


@pytest.mark.parametrize(
    ("name", "phrase", "comment"),
    [
        ("Plain Name", "Plain Name", "Plain Name"),
        ("Dr. Name", '"Dr. Name"', "Dr. Name"),
        ("a  b\tc\x01", "a b c", "a b c"),
        ("50% off!", '"50% off!"', "50% off!"),
        ("(open (twice", '"(open (twice"', "(open (twice))"),
        (")shut", '")shut"', "shut"),
        ("back\\", '"back\\\\"', "back"),
        ('q"uote', '"q\\"uote"', 'q"uote'),
        ("  ", None, None),
        ("", None, None),
        ("Jörg", "=?utf-8?Q?J=C3=B6rg?=", "=?utf-8?Q?J=C3=B6rg?="),
        ("a ü (b)", "=?utf-8?Q?a_=C3=BC_=28b=29?=", "=?utf-8?Q?a_=C3=BC_=28b=29?="),
        ("it's ü", "=?utf-8?Q?it=27s_=C3=BC?=", "=?utf-8?Q?it's_=C3=BC?="),
    ],
)
def test_full_names(name: str, phrase: str | None, comment: str | None) -> None:
    assert full_name_text(name, comment=False, charset="utf-8") == phrase
    assert full_name_text(name, comment=True, charset="utf-8") == comment


def test_full_names_before_encoded_words() -> None:
    """Releases before 3.10 write the bytes as they are, with the quoting that other names get."""
    for name, phrase in (("Jürgen Groß", "Jürgen Groß"), ("Groß, Jürgen", '"Groß, Jürgen"')):
        assert full_name_text(name, comment=False, charset="", encode=False) == phrase
        assert full_name_text(name, comment=True, charset="", encode=False) == name


def test_long_names_are_several_words_of_at_most_75_characters() -> None:
    text = encode_words(("abcdefghij " * 10 + "ü").encode(), "utf-8", comment=True)
    assert text is not None
    assert all(len(word) <= 75 and word.startswith("=?utf-8?Q?") for word in text.split("\n"))
    assert len(text.split("\n")) == 2
    text = encode_words(("ü" * 60).encode(), "utf-8", comment=True)
    assert text is not None and text.startswith("=?utf-8?B?")


@given(st.text(min_size=1, max_size=200).filter(lambda text: not text.startswith('"')))
def test_encoded_words_decode_to_what_they_were(text: str) -> None:
    from email.header import decode_header

    words = encode_words(text.encode("utf-8", "surrogatepass"), "utf-8", comment=False)
    assert words is not None
    decoded = b"".join(data if isinstance(data, bytes) else data.encode() for data, _ in decode_header(words))
    assert decoded == text.encode("utf-8", "surrogatepass")


@pytest.mark.parametrize("charset", ["", "x" * 40, "a b", "ü"])
def test_bad_charsets(charset: str) -> None:
    assert encode_words(b"x", charset, comment=True) is None


records = st.lists(st.tuples(st.sampled_from("NNNLXR"), st.binary(max_size=400)), max_size=20)


@given(records, st.integers(0, 50), st.integers(1, 400))
def test_text_runs_are_whole_text_records(items: list[tuple[str, bytes]], cut: int, limit: int) -> None:
    data = b"".join(encode_record(kind, payload) for kind, payload in items)
    data = data[: len(data) - cut]
    run = text_run(data, 0, limit)
    parser = RecordParser()
    parser.feed(data[: run.end])
    found = list(parser)
    assert parser.rest == b""
    assert len(found) == run.records
    assert all(kind in "NL" for kind, _ in found)
    assert found == items[: len(found)]
    assert run.continued == (bool(found) and found[-1][0] == "L")
    strays = sum(payload.count(b"\r") + payload.count(b"\n") for _, payload in found)
    assert data[: run.end].count(b"\r") + data[: run.end].count(b"\n") == strays + run.framing


def test_flow_control() -> None:
    read, write = os.pipe()
    os.set_blocking(read, False)
    flow = FlowControl(read, write)
    try:
        assert not flow.take()
        flow.give()
        assert flow.take()
        assert not flow.take()
    finally:
        os.close(read)
        os.close(write)


def test_flow_control_only_under_a_master(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GENERATION", raising=False)
    assert FlowControl.inherited() is None


@pytest.mark.parametrize(
    ("text", "data"), [(r"\0", b"\0"), (r"\101\a\n", b"A\a\n"), ("\\", b""), (r"a\\b", b"a\\b"), (r"\777", b"\xff")]
)
def test_escapes(text: str, data: bytes) -> None:
    assert unescape(text) == data


@pytest.mark.parametrize("release", ["2.3", "2.6", "2.11", "3.0", "3.4", "3.7", "3.9", "3.10", "3.11"])
def test_every_release_has_what_we_read(release: str, tmp_path: Path) -> None:
    """Every parameter named in our sources can be read under every release."""
    import re

    import postfixpy.commands
    import postfixpy.services
    from postfixpy import config

    (tmp_path / "main.cf").write_text("inet_interfaces = 127.0.0.1\n")
    view = complete(config.load(str(tmp_path), release=release).view())
    services, commands = (Path(room.__path__[0]) for room in (postfixpy.services, postfixpy.commands))
    sources = [*services.glob("cleaning/*.py"), services / "cleanup.py", services / "pickup.py"]
    sources += [*services.glob("standalone/*.py"), commands / "sendmail.py", commands / "submission.py"]
    sources += [commands / "postdrop.py", commands / "submit_access.py", commands / "extraction.py"]
    names = {name for path in sources for name in re.findall(r"\bview\.([a-z_0-9]+)\b(?!\()", path.read_text())}
    assert "message_size_limit" in names
    for name in names | {"header_from_format"}:
        getattr(view, name)


def test_old_releases_do_what_they_did(tmp_path: Path) -> None:
    from postfixpy import config

    (tmp_path / "main.cf").write_text("inet_interfaces = 127.0.0.1\n")
    old = complete(config.load(str(tmp_path), release="2.3").view())
    assert (old.header_from_format, old.smtputf8_enable, old.always_add_missing_headers) == ("obsolete", False, True)
    assert old.message_drop_headers.startswith("bcc")
    new = complete(config.load(str(tmp_path), release="3.11").view())
    assert (new.header_from_format, new.always_add_missing_headers) == ("standard", False)
