"""The choice among mechanisms; the scenarios in compat/scenarios/sasl show that it is that of Cyrus SASL."""

import pytest

from postfixpy.sasl import choice
from postfixpy.sasl.choice import choose
from postfixpy.sasl.mechanism import Credentials, SASLError

ALICE = Credentials("alice", "secret")
BOUND = Credentials("alice", "secret", bindings={"tls-exporter": b"x"})


@pytest.mark.parametrize(
    ("offered", "options", "name"),
    [
        ("PLAIN LOGIN", "", "PLAIN"),
        ("login plain", "noanonymous", "PLAIN"),
        ("LOGIN ANONYMOUS", "", "LOGIN"),
        ("ANONYMOUS", "", "ANONYMOUS"),
        ("PLAIN CRAM-MD5", "", "CRAM-MD5"),
        ("CRAM-MD5 DIGEST-MD5", "", "DIGEST-MD5"),
        ("SCRAM-SHA-1 DIGEST-MD5 SCRAM-SHA-256", "", "SCRAM-SHA-256"),
        ("SCRAM-SHA-1,PLAIN", "mutual_auth noactive", "SCRAM-SHA-1"),
        ("DIGEST-MD5 CRAM-MD5 EXTERNAL", "mutual_auth", "DIGEST-MD5"),
        ("SCRAM-SHA-256-PLUS PLAIN", "", "PLAIN"),
    ],
)
def test_strongest_first(offered: str, options: str, name: str) -> None:
    assert choose(offered, options.split(), ALICE)[0] == name


@pytest.mark.parametrize(
    ("offered", "options", "log"),
    [
        ("PLAIN", "noplaintext", "No worthy mechs found"),
        ("ANONYMOUS", "noanonymous", "No worthy mechs found"),
        ("SCRAM-SHA-256", "nodictionary", "No worthy mechs found"),
        ("SCRAM-SHA-256", "forward_secrecy", "No worthy mechs found"),
        ("X-OTHER", "", "No worthy mechs found"),
        ("XOAUTH2 OAUTHBEARER", "", "No worthy mechs found"),
        ("SCRAM-SHA-256-PLUS", "", ""),
        ("PLAIN EXTERNAL", "", ""),  # EXTERNAL is stronger, and has no identity
    ],
)
def test_none(offered: str, options: str, log: str) -> None:
    with pytest.raises(SASLError, match="no mechanism available") as caught:
        choose(offered, options.split(), ALICE)
    assert caught.value.log.endswith(log) and bool(caught.value.log) == bool(log)


def test_channel_binding_when_both_have_it() -> None:
    offered = "SCRAM-SHA-1-PLUS SCRAM-SHA-256 SCRAM-SHA-1"
    assert choose(offered, (), BOUND)[0] == "SCRAM-SHA-1-PLUS"
    assert choose(offered, (), ALICE)[0] == "SCRAM-SHA-256"
    assert choose("SCRAM-SHA-256", (), BOUND)[0] == "SCRAM-SHA-256"


def test_tokens_are_for_bearers_only() -> None:
    assert choose("PLAIN XOAUTH2 OAUTHBEARER", (), ALICE, bearer=True)[0] == "XOAUTH2"
    for offered, options in (("PLAIN LOGIN", ()), ("XOAUTH2", ("noplaintext",))):
        with pytest.raises(SASLError):
            choose(offered, options, ALICE, bearer=True)


def test_a_mechanism_without_its_library_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choice, "ntlm_available", lambda: False)
    monkeypatch.setattr(choice, "gssapi_available", lambda: False)
    assert choose("NTLM GSSAPI PLAIN", (), ALICE)[0] == "PLAIN"
    monkeypatch.setattr(choice, "ntlm_available", lambda: True)
    assert choose("NTLM GSSAPI PLAIN", (), ALICE)[0] == "NTLM"
