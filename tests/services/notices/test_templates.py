"""Bounce templates. Every text was compared with that of Postfix 3.7.11 (postconf -b, -t)."""

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postfixpy import log
from postfixpy.config import View, load
from postfixpy.errors import FatalError
from postfixpy.services.notices import templates
from postfixpy.services.notices.templates import BUILT_IN, DELAY, FAILURE, SUCCESS, VERIFY, Templates, parse_file


@pytest.fixture
def logged() -> Iterator[list[str]]:
    lines: list[str] = []
    previous = log.set_sink(lambda severity, text: lines.append(f"{severity}: {text}"))
    yield lines
    log.set_sink(previous)


def view(directory: Path, settings: str = "", file: str | None = None) -> View:
    if file is not None:
        (directory / "bounce.cf").write_text(file)
        settings += f"bounce_template_file = {directory}/bounce.cf\n"
    (directory / "main.cf").write_text(f"compatibility_level = 3.6\nmyhostname = h.example.com\n{settings}")
    return load(str(directory)).view(process_name="bounce", service_name="bounce")


def given_templates(text: str) -> Templates:
    made = Templates()
    parse_file("bounce.cf", text, made)
    return made


def test_built_in_failure(tmp_path: Path) -> None:
    template = BUILT_IN[FAILURE]
    assert template.sender("standard") == "Mail Delivery System <MAILER-DAEMON>"
    assert template.sender("obsolete") == "MAILER-DAEMON (Mail Delivery System)"
    with pytest.raises(FatalError, match='invalid setting: "header_from_format = odd"'):
        template.sender("odd")
    assert templates.expand(template, view(tmp_path))[0] == "This is the mail system at host h.example.com."
    assert template.body[-1] == "                   The mail system"


def test_times_are_scaled(tmp_path: Path, logged: list[str]) -> None:
    config = view(tmp_path, "delay_warning_time = 4h\nmaximal_queue_lifetime = 5d\n")
    text = templates.expand(BUILT_IN[DELAY], config)
    assert "Your message could not be delivered for more than 4 hour(s)." in text
    assert "It will be retried until it is 5 day(s) old." in text
    assert logged == []


def test_times_that_do_not_fit_their_unit(tmp_path: Path, logged: list[str]) -> None:
    text = "verify_template = <<E\n\n$delay_warning_time_weeks $maximal_queue_lifetime_minutes\nE\n"
    config = view(tmp_path, "delay_warning_time = 1h\n", text)
    assert templates.expand(templates.load(config)[VERIFY], config) == ["0 7200"]
    path = tmp_path / "bounce.cf"
    assert logged == [
        f'warning: {path}: zero result in verify template conversion of parameter "delay_warning_time_weeks"',
        'warning: please reduce time unit "weeks" of "delay_warning_time_weeks" in verify template',
        "warning: for instructions see the bounce(5) manual",
        f'warning: {path}: excessive result "7200" in verify template '
        'conversion of parameter "maximal_queue_lifetime_minutes"',
        'warning: please increase time unit "minutes" of "maximal_queue_lifetime_minutes" in verify template',
        "warning: for instructions see the bounce(5) manual",
    ]


def test_template_in_full(logged: list[str]) -> None:
    made = given_templates(
        "# comment\n\nfailure_template = <<EOF\nCharset: utf-8\nFrom: Me <me@x>\nSubject: :: Weg\n"
        "Postmaster-Subject: Kopie\n\n \nLieber Kunde: häßlich\n\nEnde\nEOF\n"
    )[FAILURE]
    assert (made.charset, made.encoding, made.subject, made.postmaster_subject) == ("utf-8", "8bit", "Weg", "Kopie")
    assert made.sender("standard") == made.sender("obsolete") == "Me <me@x>"
    assert made.body == ("Lieber Kunde: häßlich", "", "Ende")
    assert logged == []


@pytest.mark.parametrize(
    ("kind", "text", "complaint"),
    [
        (SUCCESS, "Postmaster-Subject: x\n\nx", 'inapplicable "Postmaster-Subject" header label in success template'),
        (FAILURE, "Foo: bar\n\nx", 'unknown "Foo" header label in failure template'),
        (DELAY, "From:\n\nx", 'empty "From" header value in delay template'),
        (DELAY, "Subject: Spät\n\nx", 'non-ASCII "Subject" header value in delay template'),
        (VERIFY, "Subject: x\n\n \n", "missing message text in verify template"),
        (VERIFY, "", "missing message text in verify template"),
    ],
)
def test_bad_template_is_ignored_when_it_is_used(logged: list[str], kind: str, text: str, complaint: str) -> None:
    made = Templates()
    made.replace(kind, "bounce.cf", text)
    assert logged == []
    assert made[kind] == BUILT_IN[kind]
    assert made[kind] == BUILT_IN[kind]
    assert logged == [f"warning: bounce.cf: {complaint} -- ignoring this template"]


def test_eight_bits_need_a_charset(logged: list[str]) -> None:
    assert given_templates("failure_template = <<E\n\nhäßlich\nE\n")[FAILURE] == BUILT_IN[FAILURE]
    assert logged == [
        "warning: bounce.cf: 8-bit message text in failure template",
        "warning: please specify a charset value other than us-ascii",
        "warning: -- ignoring this template for now",
    ]


@pytest.mark.parametrize(
    ("text", "fatal"),
    [
        ("failure_template = <<\n", "bounce.cf, line 2: missing end marker after <<"),
        ("\nfailure_template = << -x\n", "bounce.cf, line 3: malformed end marker after <<"),
        ("foo\n", "bounce.cf, line 2: missing '=' after attribute name: \"foo\""),
        (" = bar\n", 'bounce.cf, line 2: missing attribute name: " = bar"'),
    ],
)
def test_bad_file(text: str, fatal: str) -> None:
    with pytest.raises(FatalError) as caught:
        given_templates(text)
    assert str(caught.value) == fatal


def test_odd_file(logged: list[str]) -> None:
    made = given_templates("failure_template = one line\nother_template = x\ndelay_template = <<E\nx\ny")
    assert made[FAILURE].body == ("one line",)
    assert made[DELAY].body == ("x", "y")
    assert logged == [
        "warning: bounce.cf, line 3: unknown template name: other_template -- ignoring this template",
        'warning: bounce.cf, line 6: missing "E" end marker',
    ]


@pytest.mark.parametrize(
    ("line", "fatal"),
    [
        ("a $no_such_name b", "undefined $name in failure template: a $no_such_name b"),
        ("a ${bad", "bad $name syntax in failure template: a ${bad"),
        ("$delay_warning_time_eons", 'unrecognized suffix "eons" in parameter "delay_warning_time_eons"'),
    ],
)
def test_references_that_go_nowhere(tmp_path: Path, logged: list[str], line: str, fatal: str) -> None:
    config = view(tmp_path, file=f"failure_template = <<E\n\n{line}\nE\n")
    with pytest.raises(FatalError) as caught:
        templates.expand(templates.load(config)[FAILURE], config)
    assert str(caught.value) == f"{tmp_path}/bounce.cf: {fatal}"


def test_missing_file(tmp_path: Path) -> None:
    config = view(tmp_path, "bounce_template_file = /no/such\n")
    with pytest.raises(FatalError, match="open /no/such: No such file or directory"):
        templates.load(config)


def test_domains_are_for_people(tmp_path: Path) -> None:
    text = "failure_template = <<E\n\n$myhostname $mydomain\nE\n"
    names = "myhostname = Mail.Example.COM\nmydomain = xn--bcher-kva.example\n"
    config = view(tmp_path, names, text)
    assert templates.expand(templates.load(config)[FAILURE], config) == ["mail.example.com bücher.example"]
    config = view(tmp_path, names + "smtputf8_enable = no\n", text)
    assert templates.expand(templates.load(config)[FAILURE], config) == ["Mail.Example.COM xn--bcher-kva.example"]


def test_dump_is_read_again(tmp_path: Path) -> None:
    config = view(tmp_path)
    text = templates.dump(Templates(), config)
    assert text.startswith("failure_template = <<EOF\nCharset: us-ascii\nFrom: Mail Delivery System <MAILER-DAEMON>\n")
    assert templates.dump(given_templates(text), config) == text
    assert templates.expand_all(Templates(), config).startswith("expanded_failure_text = <<EOF\nThis is the mail")


@given(st.text("ab:=<E\n #$\t-ä", max_size=60))
def test_any_file_is_read_or_refused(text: str) -> None:
    previous = log.set_sink(lambda severity, text: None)
    try:
        made = given_templates(f"failure_template = <<E\n{text}\nE\n{text}")
        for kind in templates.KINDS:
            assert made[kind].body
    except FatalError:
        pass
    finally:
        log.set_sink(previous)


@pytest.mark.real
@pytest.mark.skipif(shutil.which("postconf") is None, reason="no Postfix here")
@pytest.mark.parametrize(
    "file",
    [
        None,
        "failure_template = <<E\nCharset: utf-8\n\n${delay_warning_time?yes} $(mail_name) $$5 $mydomain ä\n\nE\n",
        "delay_template = one line\nverify_template = <<E\nSubject: x\n\nbody\nE",
    ],
)
def test_same_as_postconf(tmp_path: Path, logged: list[str], file: str | None) -> None:
    view(tmp_path, "mydomain = xn--bcher-kva.example\n", file)
    config = load(str(tmp_path), release="3.7").view(process_name="bounce")
    made = templates.load(config)
    for option, text in (("-t", templates.dump(made, config)), ("-b", templates.expand_all(made, config))):
        real = subprocess.run(["postconf", "-c", str(tmp_path), option], capture_output=True, check=True)
        assert text == real.stdout.decode()
