"""Name spaces: classes, values, and what is used; with tables.py and unused.py, which need a name space."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from postfixpy import log
from postfixpy.config.inspect import unused
from postfixpy.config.inspect.names import Names
from postfixpy.config.inspect.rows import parse_row
from postfixpy.config.main_cf import parse_settings
from postfixpy.config.parameters import database
from postfixpy.errors import FatalError


@pytest.fixture(autouse=True)
def warnings() -> Iterator[list[str]]:
    texts: list[str] = []
    previous = log.set_sink(lambda severity, text: texts.append(text))
    yield texts
    log.set_sink(previous)


def names(main: str, *rows: str, release: str = "3.11") -> Names:
    parameters = database(release, "upstream")
    result = Names(parameters, "D", parse_settings(main, "D/main.cf", parameters.release), "/usr/sbin/postconf")
    result.add_rows([parse_row(row, parameters.release) for row in rows])
    result.find_used_names()
    return result


def user_names(result: Names) -> list[str]:
    return sorted(name for name, kind in result.classes.items() if kind == "user")


def test_user_defined_names_are_used_by_reference_or_as_classes() -> None:
    result = names("a = 1\nb = 2\nc = $b\nd = 4\nrelayhost = ${a?x}\nsmtpd_restriction_classes = d, e\n")
    assert user_names(result) == ["a", "b", "d"]


def test_service_parameters() -> None:
    result = names("", "slow unix - - n - - smtp", "run unix - - n - - spawn", "local unix - - n - - local")
    assert result.classes["slow_destination_rate_delay"] == "service"
    assert result.lookup("slow_destination_rate_delay") == "$default_destination_rate_delay"
    assert result.lookup("run_time_limit") == "$command_time_limit"
    assert result.classes["local_destination_concurrency_limit"] == "service"
    assert result.lookup("local_destination_concurrency_limit") == "2"
    assert "run_destination_rate_delay" not in result.classes


def test_undefined_names(warnings: list[str]) -> None:
    names("relayhost = $nothing\n", "smtp inet n - n - - smtpd -o biff=$none")
    assert warnings == ["D/master.cf: undefined parameter: none", "D/main.cf: undefined parameter: nothing"]


def test_read_only_names(warnings: list[str]) -> None:
    result = names("process_name = x\nservice_name = y\n")
    assert warnings == ["D/main.cf: read-only parameter assignment: process_name=x"]
    assert (result.lookup("process_name"), result.lookup("service_name")) == ("postconf", "y")


def test_precedence_in_a_row() -> None:
    result = names("biff = main\nfoo = $service_name\nrelayhost=$foo", "slow unix - - n - - /x/smtp -o biff=row")
    (scope,) = result.scopes
    assert (result.lookup("biff"), result.lookup("biff", scope)) == ("main", "row")
    assert result.expand("$foo $process_name", scope) == "slow smtp"
    assert result.lookup("relayhost", only_set=True) == "$foo"
    assert result.lookup("myorigin", only_set=True) is None


def test_raw_values_are_not_expanded() -> None:
    result = names("default_rbl_reply = $rbl_code text\nsmtpd_banner = [$default_rbl_reply]\n")
    assert result.expand("$smtpd_banner") == "[$rbl_code text]"


def test_an_endless_value_is_fatal() -> None:
    with pytest.raises(FatalError, match=r"^macro processing error$"):
        names("smtpd_banner = $smtpd_banner x\n")


def test_names_of_table_clients(warnings: list[str]) -> None:
    main = (
        "virtual_alias_maps = proxy:ldap:people, unionmap:{mysql:db, static:x}\nforeign = pgsql:no\n"
        "people_server_host = h\ndb_query = q\ndb_bogus = 1\nno_hosts = h\n"
    )
    result = names(main)
    assert user_names(result) == ["db_query", "people_server_host"]
    unused.warn_unused(result)
    assert warnings == [
        "D/main.cf: unused parameter: db_bogus=1",
        "D/main.cf: unused parameter: foreign=pgsql:no",
        "D/main.cf: unused parameter: no_hosts=h",
    ]


def test_files_of_table_clients(tmp_path: Path, warnings: list[str]) -> None:
    client = tmp_path / "l.cf"
    client.write_text("server_host = h\nbogus = 1\n")
    names(f"alias_maps = ldap:{client} ldap:{client} ldap:/nonexistent/x.cf ldap:{tmp_path}\n")
    assert warnings == [
        f"ldap:{client}: unused parameter: bogus=1",
        'open "ldap" configuration "/nonexistent/x.cf": No such file or directory',
        f'open "ldap" configuration "{tmp_path}": not a regular file',
    ]


def test_braces_and_comments_in_lists(warnings: list[str]) -> None:
    names("alias_maps = inline:{a=b}c, inline:{x, y\nrelay_domains = a, # b\nheader_checks = pcre:{ {/#/ x} }\n")
    assert sorted(warnings) == [
        "D/main.cf: #comment after other text is not allowed: # b...",
        "D/main.cf: missing '}' in \"{x, y\"",
        "D/main.cf: syntax error after '}' in \"{a=b}c\"",
    ]


def test_unused_and_deprecated(warnings: list[str]) -> None:
    main = "postfixpy_session_trace_directory = /x\nzoo = 1\nsmtpd_use_tls = yes\nbar=2\n"
    result = names(main, "smtp inet n - n - - smtpd -o smtpd_bogus=1 -o biff=no")
    assert unused.warn_unused(result) is True
    unused.warn_deprecated_pointer(result)
    assert warnings == [
        "D/main.cf: unused parameter: bar=2",
        'D/main.cf: support for parameter "smtpd_use_tls" will be removed; instead, specify "smtpd_tls_security_level"',
        "D/main.cf: unused parameter: zoo=1",
        "D/master.cf: unused parameter: smtpd_bogus=1",
        "See https://www.postfix.org/DEPRECATION_README.html for details",
    ]
    warnings.clear()
    assert unused.warn_unused(names("smtpd_use_tls = yes\n", release="3.8")) is False
    assert warnings == []


def test_overrides_from_the_command_line() -> None:
    result = names("")
    result.override(["relayhost = x"])
    assert result.lookup("relayhost", only_set=True) == "x"
    with pytest.raises(FatalError, match=r"^invalid parameter override: x: missing '=' after attribute name$"):
        result.override(["x"])
