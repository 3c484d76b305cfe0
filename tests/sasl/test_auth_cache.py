"""Entries of the cache of refusals."""

import pytest

from postfixpy.sasl import auth_cache

ENTRY = auth_cache.value("secret", "5.7.8", "535 5.7.8 no", 1000.9)


def test_entry() -> None:
    assert auth_cache.key("mail.example", "alice") == "mail.example;alice"
    assert ENTRY == "1000;5en6G6MezRroT3XKqkdPOmY/BfQ=;5.7.8;535 5.7.8 no"
    assert auth_cache.refusal(ENTRY, "secret", 1100, 100) == ("5.7.8", "535 5.7.8 no")


def test_too_old_or_of_another_password() -> None:
    assert auth_cache.refusal(ENTRY, "secret", 1101, 100) is None
    assert auth_cache.refusal(ENTRY, "other", 1000, 100) is None


def test_first_line_only() -> None:
    entry = auth_cache.value("secret", "5.7.8", "535-5.7.8 one\n535 5.7.8 two", 1000)
    assert auth_cache.refusal(entry, "secret", 1000, 0) == ("5.7.8", "535-5.7.8 one")


@pytest.mark.parametrize("entry", ["", "x", "1;2;3", "1;a;5.7;text", ";;;", "1;a;5.7.8;"])
def test_malformed(entry: str, log_lines: list[str]) -> None:
    assert auth_cache.refusal(entry, "secret", 1, 100) is None
    assert log_lines == [f"warning: bad smtp_sasl_auth_cache entry: {entry}"]
