"""known_tcp_ports, with the complaints that Postfix 3.7 was heard to make."""

import pytest

from postfixpy.config.known_ports import parse_known_ports


def test_names_and_numbers() -> None:
    text = "lmtp=24, smtp=25, smtps=submissions=465,,a = 7"
    assert parse_known_ports(text) == {"lmtp": "24", "smtp": "25", "smtps": "465", "submissions": "465", "a": "7"}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a=b=", 'in "a=b=": missing port value after "="'),
        ("smtp", 'in "smtp" is not in "name = value" form'),
        ("smtp=25=26", 'in "smtp=25=26": numerical service name'),
        ("25=smtp", 'in "25=smtp": numerical service name'),
        ("lmtp=24, smtp=", 'in " smtp=": missing port value after "="'),
        ("=25", 'in "=25": missing service name before "="'),
        ("a==25", 'in "a==25": missing service name before "="'),
        ("a=b", 'in "a=b": non-numerical service port'),
        ("a=25 b=26", 'in "a=25 b=26": whitespace in service name'),
        ("a=25, a=26", 'in " a=26": duplicate service name'),
        ("a=1, b=2, =", 'in " =": missing port value after "="'),
    ],
)
def test_complaints(text: str, said: str) -> None:
    lines: list[str] = []
    parse_known_ports(text, lines.append)
    assert lines == [f"known_tcp_ports: {said}"]


@pytest.mark.parametrize("text", ["", ",", "smtp=99999", "a=0", "a= 25"])
def test_no_complaints(text: str) -> None:
    lines: list[str] = []
    parse_known_ports(text, lines.append)
    assert lines == []
