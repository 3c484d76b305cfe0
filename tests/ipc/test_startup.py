"""What every program checks at its start: the complaints, beside the real program's, and what is let pass."""

import os
import subprocess
from pathlib import Path

import pytest

from postfixpy import config
from postfixpy.errors import FatalError
from postfixpy.ipc.startup import check

from .startup_cases import CASES

ACCOUNTS = ("mail_owner", "setgid_group", "default_privs")


def write(directory: Path, lines: str) -> Path:
    """A main.cf that is right but for `lines`."""
    right = f"compatibility_level = 3.6\nqueue_directory = {directory.parent}\nmyhostname = mail.example.com\n"
    right += "inet_interfaces = loopback-only\n"
    names = {line.partition(" ")[0] for line in lines.split("\n")}
    kept = "".join(f"{line}\n" for line in right.splitlines() if line.partition(" ")[0] not in names)
    directory.mkdir()
    (directory / "main.cf").write_text(kept + lines + "\n")
    return directory / "main.cf"


def complaint(directory: Path, log_lines: list[str], release: str = "3.7") -> str:
    """What `check` says."""
    try:
        check(config.load(str(directory), release=release).view(process_name="postqueue"))
    except FatalError as error:
        log_lines.append(f"fatal: {error}")
    return "\n".join(log_lines).replace(f"{directory}/main.cf", "FILE")


@pytest.mark.parametrize(("lines", "text"), CASES)
def test_a_wrong_value_is_refused(tmp_path, monkeypatch, log_lines, lines, text):
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    write(tmp_path / "etc", lines)
    assert complaint(tmp_path / "etc", log_lines) == text


def test_shared_ids_are_told_in_the_words_of_the_release(tmp_path, monkeypatch, log_lines):
    import pwd

    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(pwd, "getpwnam", lambda name: pwd.struct_passwd((name, "x", 4711, 4711, "", "/", "/")))
    monkeypatch.setattr(pwd, "getpwuid", lambda uid: pwd.struct_passwd(("first", "x", 4711, 4711, "", "/", "/")))
    write(tmp_path / "etc", "mail_owner = second")
    old = complaint(tmp_path / "etc", log_lines)
    log_lines.clear()
    new = complaint(tmp_path / "etc", log_lines, "3.11")
    assert old == "fatal: file FILE: parameter mail_owner: user second has same user ID as first"
    assert new == "fatal: file FILE: parameter mail_owner: user second has the same user ID 4711 as user first"


def test_several_relayhosts_are_for_releases_from_3_5_on(tmp_path, log_lines):
    write(tmp_path / "etc", "relayhost = a.example, b.example\ncompatibility_level = 2")
    assert complaint(tmp_path / "etc", log_lines) == ""
    assert complaint(tmp_path / "etc", log_lines, "3.4") == (
        "fatal: relayhost parameter setting must not contain multiple values: a.example, b.example"
    )


def test_an_entry_of_known_tcp_ports_that_is_wrong(tmp_path, log_lines):
    write(tmp_path / "etc", "known_tcp_ports = a=b=, smtp")
    assert complaint(tmp_path / "etc", log_lines) == (
        'warning: known_tcp_ports: in "a=b=": missing port value after "="\n'
        'warning: known_tcp_ports: in " smtp" is not in "name = value" form'
    )


def test_a_parameter_of_a_later_release_is_not_read(tmp_path, log_lines):
    write(tmp_path / "etc", "requiretls_enable = maybe")
    assert complaint(tmp_path / "etc", log_lines) == ""
    assert (
        complaint(tmp_path / "etc", log_lines, "3.11") == "fatal: bad boolean configuration: requiretls_enable = maybe"
    )


def test_accounts_do_not_matter_to_a_user_who_runs_the_queue(tmp_path, monkeypatch, log_lines):
    monkeypatch.setattr(os, "geteuid", lambda: os.stat(tmp_path).st_uid or 4711)
    monkeypatch.setattr("postfixpy.ipc.startup._runs_own_queue", lambda view: True)
    write(tmp_path / "etc", "mail_owner = no-such-user\nsetgid_group = no-such-group\ndefault_privs = no-such-user")
    assert complaint(tmp_path / "etc", log_lines) == ""


def test_accounts_matter_to_a_user_of_another_users_queue(tmp_path, monkeypatch, log_lines):
    monkeypatch.setattr(os, "geteuid", lambda: os.stat(tmp_path).st_uid + 4711)
    write(tmp_path / "etc", "setgid_group = no-such-group")
    assert complaint(tmp_path / "etc", log_lines) == (
        "fatal: file FILE: parameter setgid_group: unknown group name: no-such-group"
    )


def test_compiled_in_accounts_may_be_missing(tmp_path, monkeypatch, log_lines):
    import grp
    import pwd

    def nobody(name):
        raise KeyError(name)

    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(pwd, "getpwnam", nobody)
    monkeypatch.setattr(grp, "getgrnam", nobody)
    write(tmp_path / "etc", "")
    assert complaint(tmp_path / "etc", log_lines) == ""


@pytest.mark.real
def test_the_real_postqueue_refuses_the_same(tmp_path):
    if not os.path.exists("/usr/sbin/postqueue") or os.geteuid() != 0:
        pytest.fail("run this as root, with Debian's package")
    running = []
    for number, (lines, text) in enumerate(CASES):
        path = write(tmp_path / str(number), lines)
        command = ["/usr/sbin/postqueue", "-c", str(path.parent), "-p"]
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        running.append((lines, text, path, process))
    for lines, text, path, process in running:
        said = process.communicate()[1].replace("postqueue: ", "").replace(str(path), "FILE")
        assert (lines, said, process.returncode) == (lines, text + "\n", 69)
