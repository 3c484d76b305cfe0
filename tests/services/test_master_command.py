import getpass
from types import SimpleNamespace

import pytest

from postfixpy.config.master_cf import RowDefaults, parse_row
from postfixpy.services.master_command import (
    arguments,
    disabled,
    environment,
    forbidden,
    implied_postlog,
    is_ours,
    postlog_warning,
    protocol,
    split_list,
    unavailable,
)


def row(line: str):
    return parse_row(line, "master.cf: line 1", RowDefaults(100, False))


def words(line: str, **more) -> str:
    options = {"sockets": 1, "local": True, "detached": True, "verbose": 0, "stress": False, "root": True}
    return " ".join(arguments(row(line), **(options | more)))


@pytest.mark.parametrize(
    ("line", "more", "expected"),
    [
        ("smtp unix - - y - - smtp", {}, "-t unix -u -c"),
        ("relay unix - n n - - smtp -o x=y", {}, "-n relay -t unix -o x=y"),
        ("qmgr unix n - n 300 1 qmgr", {}, "-l -t unix -u"),
        ("bounce unix - - n - 0 bounce", {"verbose": 1, "detached": False}, "-z -t unix -d -v -u"),
        ("smtp inet n - n - - smtpd", {"local": False, "sockets": 2}, "-n smtp -t inet -u -o stress= -s 2"),
        ("smtp inet n - n - - smtpd", {"local": False, "stress": True}, "-n smtp -t inet -u -o stress=yes"),
        ("smtp inet n - n - 1 smtpd", {"local": False}, "-l -n smtp -t inet -u"),
        ("smtp unix - - y - - smtp", {"root": False}, "-t unix"),
        ("x unix - n n - - a/x { -o a = b } flags=D", {}, "-t unix -o a = b flags=D"),
    ],
)
def test_what_a_process_is_given(line, more, expected):
    assert words(line, **more) == expected


def test_services_speak_as_the_real_daemons_do(tmp_path):
    entries = [row("smtp unix - - n - - smtp"), row("local unix - n n - - local"), row("x unix - n n - - nothing")]
    assert protocol(entries, str(tmp_path), (3, 11)) == ("3.11", "")
    (tmp_path / "smtp").write_bytes(b"\x7fELF mail_version=3.5.18\0")  # ours runs in its place
    (tmp_path / "local").write_bytes(b"\x7fELF mail_version=3.7.11\0")
    assert protocol(entries, str(tmp_path), (3, 11)) == ("3.7", "")
    (tmp_path / "local").write_bytes(b"\x7fELF mail_version=3.5.18\0")
    assert protocol(entries, str(tmp_path), (3, 11)) == (
        "3.11",
        f"{tmp_path}/local is of Postfix 3.5: set POSTFIXPY_VERSION=3.5 for postfix start and all commands",
    )
    assert protocol(entries, str(tmp_path), (3, 5)) == ("3.5", "")


def why(line: str, path: str, *, root: bool = True, mail_owner: str = "nosuch") -> str | None:
    return unavailable(row(line), path, root=root, mail_owner=mail_owner)


def test_which_program_runs(tmp_path):
    real = tmp_path / "verify"
    real.write_text("#!/bin/sh\n")
    real.chmod(0o755)
    assert is_ours("postlogd")
    assert not is_ours("./postlogd")
    assert not is_ours("verify")
    assert why("postlog unix-dgram n - n - 1 postlogd", "/none", root=False) is None
    assert why("verify unix - - n - 1 verify", str(real)) is None
    assert why("maildrop unix - n n - - pipe argv=x", "/d/pipe") == (
        "service maildrop/unix: program pipe is not available (not one of ours, and no /d/pipe): "
        "mail for it is deferred"
    )
    assert why("25 inet n - n - - smtpd", "/d/smtpd") == (
        "service 25/inet: program smtpd is not available (not one of ours, and no /d/smtpd): "
        "connections to it are refused"
    )


def test_real_daemons_that_need_root(tmp_path):
    def program(name: str, head: bytes = b"\x7fELF") -> str:
        (tmp_path / name).write_bytes(head)
        (tmp_path / name).chmod(0o755)
        return str(tmp_path / name)

    local, smtpd, anvil = program("local"), program("smtpd"), program("anvil")
    assert why("local unix - n n - - local", local, root=False) == (
        f"service local/unix: program local is not available ({local} needs root): mail for it is deferred"
    )
    assert why("local unix - n n - - local", local) is None
    assert why("anvil unix - - n - 1 anvil", anvil, root=False) is None
    assert why("smtp inet n - n - - smtpd", smtpd, root=False) == (
        f"service smtp/inet: program smtpd is not available ({smtpd} needs root, or mail_owner to be the user that "
        "runs it): connections to it are refused"
    )
    assert why("smtp inet n - n - - smtpd", smtpd, root=False, mail_owner=getpass.getuser()) is None
    assert why("local unix - n n - - local", program("local", b"#!/bin/sh"), root=False) is None  # not Postfix's


def test_a_port_that_needs_root():
    line = "bind 0.0.0.0 port 25: Permission denied"
    assert forbidden(row("25 inet n - n - - mine"), line) == f"service 25/inet: {line}: connections to it are refused"


def test_the_log_service_that_is_missing():
    def implied(*rows: str, log: str = "/dev/stdout", name: str = "postlog"):
        view = SimpleNamespace(maillog_file=log, postlog_service_name=name)
        return implied_postlog([row(line) for line in rows], view)

    assert implied("postlog unix-dgram n - n - 1 postlogd") is None
    assert implied(log="") is None
    found = implied("postlog unix n - n - 1 postlogd")
    assert (found.name, found.type, found.private, found.maxproc, found.command) == (
        *("postlog", "unix-dgram", False, 1),
        "postlogd",
    )
    assert postlog_warning(implied(name="log")) == (
        "missing 'postlog' service in master.cf - using \"log unix-dgram n - n - 1 postlogd\""
    )


def test_environment():
    present = {"TZ": "UTC", "HOME": "/root", "MAIL_CONFIG": "x", "POSTFIXPY_LOG": "stdout", "PATH": "/bin"}
    assert environment("MAIL_CONFIG TZ LANG=C, {A = b c}", present, "/etc/p") == {
        "POSTFIXPY_LOG": "stdout",
        "MAIL_CONFIG": "/etc/p",
        "TZ": "UTC",
        "LANG": "C",
        "A": "b c",
    }
    assert split_list(" a,b  {c = d} ") == ["a", "b", "c=d"]


@pytest.mark.parametrize(
    ("patterns", "expected"),
    [
        ("", False),
        ("inet", True),
        ("unix", False),
        ("smtp/inet", True),
        ("SMTP/INET", True),
        ("smtp.inet", True),
        ("smtp/unix", False),
        ("!smtp/inet, inet", False),
        ("!submission/inet inet", True),
    ],
)
def test_master_service_disable(patterns, expected):
    assert disabled("smtp", "inet", patterns) is expected
