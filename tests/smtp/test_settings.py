"""What is wrong with a configuration is said at the start, in Postfix's words."""

import pytest

from postfixpy.errors import FatalError
from postfixpy.smtp.settings import parse_flags


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("smtp_dns_support_level = some", 'invalid smtp_dns_support_level: "some"'),
        ("smtp_host_lookup = dns, hosts", 'unknown smtp_host_lookup value "hosts" in "dns, hosts"'),
        ("smtp_address_preference = ipv5", "bad smtp_address_preference value: ipv5"),
        ("smtp_address_verify_target = mail", 'bad protocol stage: "smtp_address_verify_target = mail"'),
        ("smtp_tls_security_level = much", 'Invalid TLS level "much"'),
        (
            "smtp_sasl_auth_enable = yes",
            "specify a password table via the `smtp_sasl_password_maps' configuration parameter",
        ),
    ],
)
def test_fatal(make_settings, text: str, error: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(FatalError) as caught:
        make_settings(text + "\n")
    assert str(caught.value) == error


def test_names_in_lmtp_mode(make_settings) -> None:  # type: ignore[no-untyped-def]
    settings = make_settings(program="lmtp")
    assert settings.name("smtp_helo_timeout") == "lmtp_lhlo_timeout"
    assert settings.name("smtp_never_send_ehlo") == "smtp_never_send_ehlo"


def test_dns_masks(make_settings) -> None:  # type: ignore[no-untyped-def]
    plain = make_settings()
    assert (plain.dns, plain.dnssec, plain.lookup_dns, plain.lookup_native) == (True, False, True, False)
    off = make_settings("disable_dns_lookups = yes\n")
    assert (off.dns, off.lookup_dns, off.lookup_native) == (False, False, True)
    secure = make_settings("disable_dns_lookups = yes\nsmtp_dns_support_level = dnssec\n")
    assert (secure.dns, secure.dnssec) == (True, True)


@pytest.mark.parametrize(
    ("words", "flags"), [([], ""), (["flags=DORX"], "DORX"), (["flags=D", "FLAGS=R"], "R"), (["flags="], "")]
)
def test_flags(words: list[str], flags: str) -> None:
    assert parse_flags(words) == flags


@pytest.mark.parametrize(
    ("words", "error"),
    [(["flags=DZ"], 'unknown flags=DZ value "Z" in "DZ"'), (["size=1"], "unknown attribute name: size=1")],
)
def test_bad_flags(words: list[str], error: str) -> None:
    with pytest.raises(FatalError) as caught:
        parse_flags(words)
    assert str(caught.value) == error


def test_obsolete_final_delivery(make_settings, log_lines) -> None:  # type: ignore[no-untyped-def]
    assert make_settings("lmtp_assume_final = yes\n", program="lmtp").final_delivery
    assert log_lines == ['warning: lmtp_assume_final is obsolete; instead, specify "flags=X" in master.cf']


def test_changed_tables(make_settings, tmp_path) -> None:  # type: ignore[no-untyped-def]
    table = tmp_path / "generic"
    table.write_text("/x/ y\n")
    settings = make_settings(f"smtp_generic_maps = regexp:{table}\n")
    assert settings.tables_changed() is None


@pytest.mark.parametrize("release", ["2.3", "2.8", "2.11", "3.0", "3.4", "3.6", "3.7", "3.10", "3.11"])
@pytest.mark.parametrize("program", ["smtp", "lmtp"])
def test_every_release(make_world, release: str, program: str) -> None:  # type: ignore[no-untyped-def]
    """The client works under the parameters of every release."""
    script = ["> 220 a", "< ?HLO".replace("?", "L" if program == "lmtp" else "E"), "> 250 a", "< MAIL", "> 250 ok",
              "< RCPT", "> 250 ok", "< DATA", "> 354 go", "<data", "> 250 ok", "< QUIT", "> 221 bye"]  # fmt: skip
    port = 24 if program == "lmtp" else 25
    world = make_world(servers={f"127.0.0.11:{port}": [script]}, release=release, program=program)
    world.deliver()
    assert [outcome.result for outcome in world.outcomes] == ["sent"]
