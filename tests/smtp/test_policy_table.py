"""Entries of smtp_tls_policy_maps: what is understood, and what is refused with which words."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postfixpy.smtp.policy_table import Entry, InvalidPolicy, parse_entry
from postfixpy.tls.level import LEVELS, Level

NOW = (3, 11)


def parse(text: str, release: tuple[int, int] = NOW) -> Entry:
    return parse_entry(text, "T", release)


def test_everything() -> None:
    entry = parse(
        "Secure match=a.example:.b.example, match=c.example ciphers=high protocols=>=TLSv1.2 exclude=RC4:MD5 "
        "servername=sni.example connection_reuse=YES enable_rpk=no "
        "policy_type=sts policy_ttl=10 policy_domain=d.example "
        "{ policy_string = version: STSv1 } mx_host_pattern=*.d.example policy_failure=sts-policy-invalid"
    )
    assert entry.level == Level.SECURE
    assert entry.match == ["a.example", ".b.example", "c.example"]
    assert (entry.grade, entry.protocols, entry.exclude) == ("high", ">=TLSv1.2", "RC4:MD5")
    assert (entry.servername, entry.reuse, entry.raw_key) == ("sni.example", True, False)
    external = entry.external
    assert (external.kind, external.ttl, external.domain) == ("sts", 10, "d.example")
    assert (external.strings, external.patterns) == (["version: STSv1"], ["*.d.example"])
    assert external.failure == "sts-policy-invalid"


def test_fingerprints_are_separated_by_bars() -> None:
    assert parse("fingerprint match=aa:bb|cc match=dd").match == ["aa:bb", "cc", "dd"]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "T: invalid empty policy"),
        (" , ", "T: invalid empty policy"),
        ("halfdane", 'T: invalid security level "halfdane"'),
        ("strong", 'T: invalid security level "strong"'),
        ("may foo", "T: malformed attribute/value pair \"foo\": missing '=' after attribute name"),
        ("may =x", 'T: malformed attribute/value pair "=x": missing attribute name'),
        (
            "may { ciphers = high",
            'T: malformed attribute/value pair "ciphers = high": missing \'}\' in "{ ciphers = high"',
        ),
        ("may ciphers=", 'T: attribute "ciphers" has empty value'),
        ("may Ciphers=high ciphers=high", 'T: attribute "ciphers" is specified multiple times'),
        ("may protocols= protocols=x", 'T: attribute "protocols" is specified multiple times'),
        ("may exclude= exclude=x", 'T: attribute "exclude" is specified multiple times'),
        ("may servername=a servername=b", 'T: attribute "servername" is specified multiple times'),
        ("may servername=-", 'T: "servername=-" specifies an invalid hostname'),
        ("may match=x", 'T: attribute "match" invalid at security level "may"'),
        ("dane match=x", 'T: attribute "match" invalid at security level "dane"'),
        ("secure match=", 'T: attribute "match" has empty value'),
        ("fingerprint tafile=x", 'T: attribute "tafile" invalid at security level "fingerprint"'),
        ("secure tafile=", 'T: attribute "tafile" has empty value'),
        ("secure tafile=/no/such", "error opening trust anchor file: /no/such: No such file or directory"),
        ("may connection_reuse=maybe", 'T: attribute "connection_reuse" has bad value: "maybe"'),
        ("may enable_rpk=1", 'T: attribute "enable_rpk" has bad value: "1"'),
        ("may policy_ttl=-1", 'T: attribute "policy_ttl" has a malformed value: "-1"'),
        ("may policy_ttl=99999999999", 'T: attribute "policy_ttl" has a malformed value: "99999999999"'),
        ("may policy_type=tlsa", 'T: attribute "policy_type" has an unexpected value: "tlsa"'),
        ("may policy_failure=x", 'T: attribute "policy_failure" has an unexpected value: "x"'),
        ("may policy_domain=a..b", 'T: attribute "policy_domain" has a malformed value: "a..b"'),
        ("may colour=blue", 'T: invalid attribute name: "colour"'),
        (
            "may mx_host_pattern=a",
            "T: built-in policy has unexpected attribute policy_ttl, policy_domain, policy_string, "
            "mx_host_pattern or policy_failure",
        ),
    ],
)
def test_refused(log_lines: list[str], text: str, problem: str) -> None:
    with pytest.raises(InvalidPolicy):
        parse(text)
    assert log_lines[-1] == f"warning: {problem}"


@pytest.mark.parametrize(
    ("text", "release"),
    [
        ("may servername=a", (3, 3)),
        ("may connection_reuse=yes", (3, 3)),
        ("may enable_rpk=yes", (3, 8)),
        ("may policy_type=sts", (3, 9)),
        ("may {ciphers=high}", (3, 9)),
        ("dane", (2, 10)),
        ("fingerprint", (2, 4)),
    ],
)
def test_not_yet(log_lines: list[str], text: str, release: tuple[int, int]) -> None:
    with pytest.raises(InvalidPolicy):
        parse(text, release)
    parse(text, (release[0], release[1] + 1))


def test_attributes_of_none_are_ignored(log_lines: list[str]) -> None:
    assert parse("none match=x nonsense").level == Level.NONE
    assert log_lines == [
        'warning: T: ignoring attribute "match=x" with TLS disabled',
        'warning: T: ignoring attribute "nonsense" with TLS disabled',
    ]


def test_trust_anchors(tmp_path: Path) -> None:
    path = tmp_path / "ta.pem"
    path.write_text("-----BEGIN PUBLIC KEY-----\nAQID\n-----END PUBLIC KEY-----\n")
    assert parse(f"verify tafile={path}").anchors == ((3, 1, 0, b"\1\2\3"), (2, 1, 0, b"\1\2\3"))


@given(st.text(max_size=60), st.sampled_from([(2, 3), (3, 5), (3, 7), (3, 11)]))
def test_any_text(text: str, release: tuple[int, int]) -> None:
    """An entry is the level that its first word names, or it is invalid."""
    words = text.translate(dict.fromkeys(map(ord, ",\t\r\n"), " ")).split(" ")
    first = next((word for word in words if word), "")
    try:
        entry = parse(text, release)
    except InvalidPolicy:
        return
    assert LEVELS[first.lower()] == entry.level


ATTRIBUTES = st.sampled_from(
    ["match=a", "ciphers=high", "protocols=x", "exclude=x", "servername=a", "connection_reuse=yes", "enable_rpk=no",
     "policy_type=sts", "policy_ttl=1", "policy_string=x", "mx_host_pattern=a", "tafile=/no", "what=ever", "{a=b}"]
)  # fmt: skip


@given(st.sampled_from(sorted(LEVELS)), st.lists(ATTRIBUTES, max_size=4))
def test_attributes_never_change_the_level(level: str, attributes: list[str]) -> None:
    try:
        assert parse(" ".join([level, *attributes])).level == LEVELS[level]
    except InvalidPolicy:
        assert attributes
