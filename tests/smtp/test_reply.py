"""Replies of any shape."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postfixpy.smtp.effects import Read, StreamError
from postfixpy.smtp.reply import parse_code, printable, read_reply, status_of
from tests.smtp.conftest import World


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("250 ok", (250, True)),
        ("250", (250, True)),
        ("250-more", (250, False)),
        ("250-", (250, False)),
        ("2500", None),
        ("25", None),
        ("250x", None),
        (" 250 ok", None),
        ("٢٥٠ ok", None),
        ("", None),
    ],
)
def test_codes(line: str, code: tuple[int, bool] | None) -> None:
    assert parse_code(line) == code


@pytest.mark.parametrize(
    ("code", "line", "status"),
    [
        (250, "250 2.1.5 ok", "2.1.5"),
        (250, "250 ok", "2.0.0"),
        (550, "550 4.1.1 odd", "5.0.0"),
        (550, "550  5.7.1", "5.7.1"),
        (550, "550 5.7.1x", "5.0.0"),
        (550, "550", "5.0.0"),
        (354, "354 3.0.0", "5.5.0"),
        (99, "099 x", "5.5.0"),
    ],
)
def test_statuses(code: int, line: str, status: str) -> None:
    assert status_of(code, line) == status


def test_printable() -> None:
    assert printable(b"plain", True) == "plain"
    assert printable("é".encode() + b"\xff\x00\t", True) == "é???"
    assert printable("é".encode(), False) == "??"


def read(world: World, pieces: list[bytes]) -> tuple[int, str, str]:
    """The reply in the pieces."""
    from postfixpy.smtp.cache import Policy
    from postfixpy.smtp.connection import new_session
    from postfixpy.smtp.policy import Policy as TLSPolicy

    delivery = world.delivery()
    session = new_session(delivery, None, TLSPolicy(), Policy())
    session.stream.set_limit(10)
    left = list(pieces)
    generator = read_reply(session)
    try:
        effect = next(generator)
        while True:
            assert isinstance(effect, Read)
            effect = generator.send(left.pop(0) if left else b"")
    except StopIteration as stop:
        return stop.value.code, stop.value.text, stop.value.status


def test_split_anywhere(make_world) -> None:  # type: ignore[no-untyped-def]  # the fixture's type says it
    text = b"250-first\r\n250-second\n250 2.1.0 third\r\r\n"
    expected = (250, "250-first\n250-second\n250 2.1.0 third", "2.1.0")
    world = make_world()
    for cut in range(1, len(text)):
        assert read(world, [text[:cut], text[cut:]]) == expected
    assert read(world, [text[i : i + 1] for i in range(len(text))]) == expected


def test_lost_in_the_middle(make_world) -> None:  # type: ignore[no-untyped-def]  # likewise
    with pytest.raises(StreamError):
        read(make_world(), [b"250-first\r\n250 sec"])


def test_endless_reply_keeps_a_bounded_text(make_world, log_lines) -> None:  # type: ignore[no-untyped-def]  # likewise
    code, text, _ = read(make_world(), [b"250-" + b"x" * 96 + b"\r\n"] * 5000 + [b"250 end\r\n"])
    assert code == 250 and len(text) < 2048 + 200
    assert any("multi-line response longer than 2048" in line for line in log_lines)


def test_endless_line(make_world, log_lines) -> None:  # type: ignore[no-untyped-def]  # likewise
    with pytest.raises(StreamError):
        read(make_world(), [b"x" * 10000])
    assert "disabling input" in log_lines[0] and "response longer than 2048" in log_lines[1]


@given(data=st.data())
def test_any_bytes_end_in_a_reply_or_a_lost_connection(data: st.DataObject) -> None:
    import tempfile
    from pathlib import Path

    from postfixpy import config, log
    from postfixpy.smtp.settings import Settings

    if "world" not in _shared:
        directory = Path(tempfile.mkdtemp())
        (directory / "main.cf").write_text("myhostname = client.example\n")
        view = config.load(str(directory), profile="upstream").view(process_name="smtp")
        _shared["world"] = World(Settings(view, interfaces=["127.0.0.1"]), {}, [])
    previous = log.set_sink(lambda severity, text: None)
    try:
        pieces = data.draw(st.lists(st.binary(min_size=1, max_size=30), max_size=10))
        code, _, status = read(_shared["world"], pieces)
        assert 0 <= code <= 999 and status[0] in "245"
    except StreamError:
        pass
    finally:
        log.set_sink(previous)


_shared: dict[str, World] = {}
