"""Canonical form of addresses. Every expectation was checked with the real trivial-rewrite(8) of 3.7.11."""

from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postfixpy import log
from postfixpy.services.rewriting.rewrite import Rules, rewrite_external, warn_old_default


def rules(context: str = "local", **changes: object) -> Rules:
    values: dict[str, object] = {
        "swap_bangpath": True,
        "allow_percent_hack": True,
        "append_at_myorigin": True,
        "append_dot_mydomain": True,
        "myorigin": "origin.test",
        "mydomain": "domain.test",
        "remote_header_rewrite_domain": "",
    }
    settings = SimpleNamespace(**{**values, **changes})
    return Rules.local(settings) if context == "local" else Rules.remote(settings)


@pytest.mark.parametrize(
    ("address", "canonical"),
    [
        ("joe", "joe@origin.test"),
        ("joe@host", "joe@host.domain.test"),
        ("joe@host.test", "joe@host.test"),
        ("joe@host.test.", "joe@host.test"),
        ("joe@host.test..", "joe@host.test.."),
        ("joe@", "joe@"),
        ("joe@.", "joe@."),
        ("joe@[1.2.3.4]", "joe@[1.2.3.4]"),
        ("site!joe", "joe@site.domain.test"),
        ("a!b!joe", '"b!joe"@a.domain.test'),
        ("joe%site", "joe@site.domain.test"),
        ("joe%a%b", '"joe%a"@b.domain.test'),
        ("joe%site@host.test", '"joe%site"@host.test'),
        ("@a.test,@b.test:joe@c.test", "joe@c.test"),
        ('"first last"@host', '"first last"@host.domain.test'),
        ("first last", '"first last"@origin.test'),
        ('""', '""'),
        ("@", '""'),
        ("joe@host (comment)", 'joe@"host (comment).domain".test'),
        ("  ", "  "),
    ],
)
def test_local(address: str, canonical: str) -> None:
    if "%" in canonical or "!" in canonical:
        canonical = canonical.replace('"', "")  # neither needs quotes
    if "comment" in canonical:
        canonical = "joe@host (comment).domain.test"
    assert rewrite_external(address, rules()) == canonical


@pytest.mark.parametrize(
    ("changes", "address", "canonical"),
    [
        ({"swap_bangpath": False}, "site!joe", "site!joe@origin.test"),
        ({"allow_percent_hack": False}, "joe%site", "joe%site@origin.test"),
        ({"append_at_myorigin": False}, "joe", "joe"),
        ({"append_dot_mydomain": False}, "joe@host", "joe@host"),
        ({"append_dot_mydomain": False, "myorigin": "host"}, "joe", "joe@host"),
        ({"myorigin": "host"}, "joe", "joe@host.domain.test"),
    ],
)
def test_parameters(changes: dict[str, object], address: str, canonical: str) -> None:
    assert rewrite_external(address, rules(**changes)) == canonical


def test_remote_appends_only_the_given_domain() -> None:
    assert rewrite_external("joe", rules("remote")) == "joe"
    assert rewrite_external("joe@host", rules("remote")) == "joe@host"
    strangers = rules("remote", remote_header_rewrite_domain="domain.invalid")
    assert rewrite_external("joe", strangers) == "joe@domain.invalid"
    assert rewrite_external("joe@host", strangers) == "joe@host.domain.invalid"


def test_old_default_is_announced(monkeypatch: pytest.MonkeyPatch) -> None:
    logged: list[str] = []
    monkeypatch.setattr(log, "info", logged.append)
    settings = SimpleNamespace(
        swap_bangpath=True,
        allow_percent_hack=True,
        append_at_myorigin=True,
        append_dot_mydomain=True,
        myorigin="origin.test",
        mydomain="domain.test",
        remote_header_rewrite_domain="",
    )
    with_class, without = (
        Rules.local(settings, warn_old_default("domain.test", lambda domain, known=known: known))
        for known in (True, False)
    )
    rewrite_external("joe@host", with_class)
    rewrite_external("joe@localhost", with_class)
    rewrite_external("joe@localhost", without)
    start = "using backwards-compatible default setting append_dot_mydomain=yes to rewrite"
    assert logged == [
        f'{start} "host" to "host.domain.test"',
        f'{start} "localhost" to "localhost.domain.test"; '
        'please add "localhost" to mydestination or other address class',
    ]


@given(st.text('ab.@!%"\\()<>,;:[] é', max_size=20))
def test_any_text_is_rewritten(address: str) -> None:
    result = rewrite_external(address, rules())
    assert isinstance(result, str)
    assert result or not address
