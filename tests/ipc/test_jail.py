"""Giving up privileges. The process test needs root."""

import os
import pwd
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from postfixpy.errors import FatalError
from postfixpy.ipc.jail import drop_privileges, user_ids
from tests.ipc.processes import OWNER, configuration, environment


def test_users():
    import getpass

    assert user_ids(getpass.getuser()) == (os.getuid(), pwd.getpwuid(os.getuid()).pw_gid)
    with pytest.raises(FatalError, match="unknown user: nosuchuser"):
        user_ids("nosuchuser")


def test_nothing_to_give_up():
    before = os.getuid(), os.getcwd()
    drop_privileges("", "", None)
    assert (os.getuid(), os.getcwd()) == before


def loaded(base: Path, main: str) -> list[str]:
    """The modules for databases that are loaded for a jail, with this main.cf."""
    (base / "main.cf").write_text(main)
    program = (
        "import sys, postfixpy.lookup\n"
        "from postfixpy.config import load\n"
        "from postfixpy.ipc.jail import DATABASES, preload\n"
        f"preload(load({str(base)!r}).view(process_name='smtp'))\n"
        "print(*sorted(name for name in (*DATABASES, 'cidr') if 'postfixpy.lookup.' + name in sys.modules))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return done.stdout.split()


def test_client_libraries_of_databases_are_loaded_when_main_cf_names_them(tmp_path):
    assert loaded(tmp_path, "transport_maps = hash:/x\n") == ["cidr"]
    assert loaded(tmp_path, "transport_maps = hash:/x, proxy:ldap:/y\n") == ["cidr", "ldap", "libldap"]


@pytest.mark.real
@pytest.mark.parametrize("option", ["-c", "-u"])
def test_a_service_as_the_mail_owner(option):
    assert os.getuid() == 0, "run this as root"
    base = Path(tempfile.mkdtemp(dir="/tmp"))
    try:
        base.chmod(0o755)
        etc = configuration(base, main="long = ${queue_directory?{a}:{b}}")
        result = subprocess.run(
            [str(base / "daemons/echo"), "-S", "-u", option],
            input=b"do\0jail\0\0",
            env=environment(etc, TZ="Europe/Paris"),
            capture_output=True,
            timeout=30,
        )
        words = result.stdout.decode().split("\0")
        answer = dict(zip(words[3::2], words[4::2], strict=False))
        owner = pwd.getpwnam(OWNER)
        assert answer["uid"] == str(owner.pw_uid)
        assert answer["groups"] == f"[{owner.pw_gid}]"
        assert ("active" in answer["root"].split()) == (option == "-c")
        assert answer["idna"] == "xn--bcher-kva.example"
        assert (answer["conditional"], answer["family"], answer["zone"]) == ("set", "20", "CET")
    finally:
        shutil.rmtree(base)


@pytest.mark.real
def test_a_jail_that_is_not_there():
    assert os.getuid() == 0, "run this as root"
    code = (
        "from postfixpy.config import load; from postfixpy.ipc.jail import drop_privileges\n"
        "import sys\n"
        "try: drop_privileges('/no/such', '', load(sys.argv[1]).view())\n"
        "except Exception as error: print(error)\n"
    )
    base = Path(tempfile.mkdtemp(dir="/tmp"))
    try:
        etc = configuration(base)
        result = subprocess.run([sys.executable, "-c", code, str(etc)], capture_output=True, text=True)
        assert result.stdout == "chroot(/no/such): No such file or directory\n"
    finally:
        shutil.rmtree(base)
