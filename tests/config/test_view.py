"""Typed reads, precedence, LMTP mirrors, service parameters and origins."""

from pathlib import Path

import pytest

from postfixpy.config import Configuration, load
from postfixpy.config.parameters import RELEASES
from postfixpy.errors import FatalError


def configuration(directory: Path, main: str, master: str = "", **options: str) -> Configuration:
    (directory / "main.cf").write_text(main)
    (directory / "master.cf").write_text(master)
    return load(str(directory), **options)


def test_types_units_and_defaults(tmp_path: Path) -> None:
    view = configuration(
        tmp_path,
        "smtp_helo_timeout = 2m\nmaximal_queue_lifetime = 3\nsoft_bounce = YES\nhopcount_limit = 7\n",
    ).view()
    assert view.smtp_helo_timeout == 120
    assert view.maximal_queue_lifetime == 3 * 86400  # its own unit is days
    assert view.soft_bounce is True
    assert view.hopcount_limit == 7
    assert view.smtp_connect_timeout == 30
    assert view.default_rbl_reply.startswith("$rbl_code ")  # a raw string is not expanded


def test_precedence_of_overrides(tmp_path: Path) -> None:
    conf = configuration(
        tmp_path,
        "smtp_helo_timeout = 2m\n",
        "fast unix - - n - - smtp -o smtp_helo_timeout=7s\n",
    )
    entry = conf.entry("fast")
    assert conf.view().smtp_helo_timeout == 120
    assert conf.view(entry).smtp_helo_timeout == 7
    assert conf.view(entry, overrides=[("smtp_helo_timeout", "8s")]).smtp_helo_timeout == 8
    assert conf.view(entry).expand("$service_name $process_name") == "fast smtp"


@pytest.mark.parametrize(
    ("setting", "name", "message"),
    [
        ("hopcount_limit = many", "hopcount_limit", "bad numerical configuration: hopcount_limit = many"),
        ("hopcount_limit = 1_0", "hopcount_limit", "bad numerical configuration: hopcount_limit = 1_0"),
        ("hopcount_limit = 0", "hopcount_limit", "invalid hopcount_limit parameter value 0 < 1"),
        ("smtp_helo_timeout = 5x", "smtp_helo_timeout", "parameter smtp_helo_timeout: bad time value or unit: 5x"),
        ("smtp_helo_timeout = 0", "smtp_helo_timeout", "invalid smtp_helo_timeout: 0 (min 1)"),
        ("soft_bounce = maybe", "soft_bounce", "bad boolean configuration: soft_bounce = maybe"),
        ("mail_name =", "mail_name", "bad string length 0 < 1: mail_name = "),
        ("relayhost = ${a", "relayhost", "dictionary mail_dict: macro processing error"),
    ],
)
def test_bad_values_fail_when_read(tmp_path: Path, setting: str, name: str, message: str) -> None:
    view = configuration(tmp_path, setting + "\n").view()
    with pytest.raises(FatalError) as error:
        getattr(view, name)
    assert str(error.value) == message


def test_lmtp_mode_reads_the_mirror(tmp_path: Path) -> None:
    conf = configuration(
        tmp_path,
        "lmtp_lhlo_timeout = 33\nlmtp_connect_timeout = 9\n",
        "lmtp unix - - n - - lmtp\nsmtp unix - - n - - smtp\n",
    )
    lmtp, smtp = conf.view(conf.entry("lmtp")), conf.view(conf.entry("smtp"))
    assert (lmtp.smtp_helo_timeout, lmtp.smtp_connect_timeout) == (33, 9)
    assert (smtp.smtp_helo_timeout, smtp.smtp_connect_timeout) == (300, 30)
    assert lmtp.origin("smtp_connect_timeout").line == 2


def test_service_parameters(tmp_path: Path) -> None:
    view = configuration(
        tmp_path,
        "slow_destination_concurrency_limit = 2\ndefault_destination_concurrency_limit = 30\n"
        "slow_destination_rate_delay = 1m\ninitial_destination_concurrency = 3\n",
    ).view()
    assert view.service_integer("slow", "destination_concurrency_limit") == 2
    assert view.service_integer("smtp", "destination_concurrency_limit") == 30
    assert view.service_integer("smtp", "initial_destination_concurrency") == 3
    assert view.service_integer("local", "destination_recipient_limit") == 1
    assert view.service_time("slow", "destination_rate_delay") == 60
    assert view.service_time("smtp", "transport_rate_delay") == 0


@pytest.mark.parametrize("release", RELEASES)
def test_service_parameters_in_every_release(tmp_path: Path, release: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POSTFIXPY_VERSION", release)
    view = configuration(tmp_path, "").view()
    assert view.service_time("smtp", "transport_rate_delay") == 0  # since 3.1
    assert view.service_integer("smtp", "destination_concurrency_failed_cohort_limit") == 1  # since 2.5
    assert view.service_integer("smtp", "destination_recipient_limit") == 50


def test_names_that_postfix_does_not_know(tmp_path: Path) -> None:
    view = configuration(tmp_path, "my_class = permit, $myhostname\nmyhostname = h.example\n").view()
    assert view.text("my_class") == "permit, h.example"
    assert view.text("nothing") == ""
    assert view.raw("nothing") is None
    with pytest.raises(AttributeError):
        view.nothing  # noqa: B018 - the read is the test


def test_host_names(tmp_path: Path) -> None:
    view = configuration(tmp_path, "myhostname = mail.example.org\n").view()
    assert view.mydomain == "example.org"
    assert view.mydestination == "mail.example.org, localhost.example.org, localhost"
    assert configuration(tmp_path, "myhostname = mail\n").view().mydomain == "localdomain"


def test_origin_follows_references(tmp_path: Path) -> None:
    conf = configuration(tmp_path, "# comment\nmyhostname = mail.example.org\nsmtp_helo_name = $myhostname\n")
    origin = conf.view().origin("smtp_helo_name")
    assert (origin.kind, origin.file, origin.line) == ("main.cf", f"{tmp_path}/main.cf", 3)
    assert [(link.name, link.line) for link in origin.chain] == [("myhostname", 2)]
    assert conf.view().origin("smtpd_relay_restrictions").kind == "compatibility"
    assert conf.view().origin("relayhost").kind == "default"
    assert conf.view().origin("nothing").kind == "undefined"


def test_releases_and_profiles(tmp_path: Path) -> None:
    old = configuration(tmp_path, "", release="2.6", profile="upstream")
    assert old.view().smtp_line_length_limit == 990
    assert old.view().daemon_directory == "/usr/libexec/postfix"
    assert configuration(tmp_path, "", profile="debian").view().daemon_directory == "/usr/lib/postfix/sbin"
    assert old.view().raw("postscreen_greet_ttl") is None  # younger than 2.6
    with pytest.raises(AttributeError):
        old.view().no_such_parameter  # type: ignore[attr-defined]  # noqa: B018 - that is the point
    with pytest.raises(FatalError, match=r"unknown Postfix release: 4\.7"):
        load(str(tmp_path), release="4.7")


def test_a_parameter_that_the_release_lacks_is_as_if_it_were_not_there(tmp_path: Path) -> None:
    (tmp_path / "main.cf").write_text("smtp_log_tls_feature_status = yes\nnon_empty_end_of_header_action = accept\n")
    view = load(str(tmp_path), release="3.7").view()
    assert view.smtp_log_tls_feature_status is False
    assert view.non_empty_end_of_header_action == "fix_quietly"
    assert load(str(tmp_path), release="3.11").view().non_empty_end_of_header_action == "accept"
