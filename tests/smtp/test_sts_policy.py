"""MTA-STS's two texts."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postfixpy.smtp.sts_policy import MAX_SIZE, PolicyTextError, STSPolicy, parse_policy, parse_records

GOOD = "version: STSv1\nmode: enforce\nmx: mx.server.example\nmx: *.server.example\nmax_age: 86400\n"


@pytest.mark.parametrize(
    ("texts", "ident"),
    [
        (["v=STSv1; id=20160831085700Z;"], "20160831085700Z"),
        (["v=STSv1;id=1"], "1"),
        (["v=STSv1 ; x=y; id=a1 ; "], "a1"),
        (["v=spf1 -all", "v=STSv1; id=1;"], "1"),
        ([], ""),
        (["v=STSv1; id=1;", "v=STSv1; id=1;"], ""),
        (["v=STSv2; id=1;"], ""),
        (["v=STSv1"], ""),
        (["v=STSv1;"], ""),
        (["v=STSv1; id=;"], ""),
        (["v=STSv1; id=a-b;"], ""),
        (["v=STSv1; id=" + "1" * 33], ""),
        (["v=STSv1; nonsense; id=1;"], ""),
        (["V=STSv1; id=1;"], ""),
    ],
)
def test_records(texts: list[str], ident: str) -> None:
    assert parse_records(texts) == ident


def test_good() -> None:
    expected = STSPolicy("enforce", 86400, ("mx.server.example", "*.server.example"))
    assert parse_policy(GOOD.encode()) == expected
    assert parse_policy(GOOD.replace("\n", "\r\n").encode()) == expected
    assert parse_policy(GOOD.rstrip("\n").encode()) == expected
    assert parse_policy(b"mode: none\nversion: STSv1\nmax_age: 0") == STSPolicy("none", 0)
    assert parse_policy(f"{GOOD}other: value\nmode: none\n".encode()) == expected  # the first mode counts


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        ("version: STSv1\n", "", "no version"),
        ("STSv1", "STSv2", "no version"),
        ("enforce", "strict", "no mode"),
        ("86400", "", "no max_age"),
        ("86400", "-1", "no max_age"),
        ("86400", "31557601", "no max_age"),
        ("86400", "1 day", "no max_age"),
        ("mx: mx.server.example\nmx: *.server.example\n", "", "no mx"),
        ("*.server", "*server", "not a host name"),
        ("*.server", "a.*.server", "not a host name"),
        ("mx.server.example", "mx.server.example servername=x", "not a host name"),
        ("mx.server.example", "bücher.example", "not a host name"),
        ("mx.server.example", "", "not a host name"),
        ("mode: ", "mode ", "line 2 is not a field"),
        ("mode:", "\nmode:", "line 2 is not a field"),
        ("enforce", "enforce\0", "line 2 is not a field"),
        ("example", "x" * MAX_SIZE, "more than"),
    ],
)
def test_bad(old: str, new: str, why: str) -> None:
    with pytest.raises(PolicyTextError, match=why):
        parse_policy(GOOD.replace(old, new, 1).encode())


def test_not_utf8() -> None:
    with pytest.raises(PolicyTextError, match="not UTF-8"):
        parse_policy(GOOD.encode() + b"x: \xff\n")


PIECES = st.sampled_from(
    [
        "version: STSv1",
        "mode: enforce",
        "mode: testing",
        "mode: none",
        "max_age: 5",
        "mx: a.b",
        "mx: *.a.b",
        "\n",
        "\r\n",
    ]
)


@given(st.one_of(st.binary(), st.lists(st.one_of(PIECES, st.text(max_size=5))).map(lambda x: "\n".join(x).encode())))
def test_whatever_is_sent(data: bytes) -> None:
    """It is a policy, which reads the same again, or PolicyTextError."""
    try:
        policy = parse_policy(data)
    except PolicyTextError as error:
        assert str(error).isprintable()
        return
    assert parse_policy("\n".join(policy.lines).encode()) == policy
    assert policy.mx or policy.mode == "none"


@given(st.lists(st.text()))
def test_whatever_the_dns_has(texts: list[str]) -> None:
    ident = parse_records(texts)
    assert ident == "" or (ident.isascii() and ident.isalnum())
