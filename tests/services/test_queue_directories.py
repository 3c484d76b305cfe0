import os
from types import SimpleNamespace

import pytest

from postfixpy.errors import FatalError
from postfixpy.services.queue_directories import create_missing
from tests.ipc.processes import configuration

PRIVATE = "active bounce corrupt defer deferred flush hold incoming private saved trace"


def view(base):
    from postfixpy.config import load

    return load(str(configuration(base))).view()


@pytest.mark.parametrize(("uid", "maildrop", "public"), [(0, "0o730", "0o710"), (1001, "0o700", "0o700")])
def test_creates_what_is_missing_with_postfix_modes(tmp_path, monkeypatch, uid, maildrop, public):
    if uid == 0 and os.geteuid() != 0:
        pytest.skip("gives files away")
    monkeypatch.setattr(os, "geteuid", lambda: uid)
    (tmp_path / "queue").mkdir()
    names = {"queue_directory": str(tmp_path / "queue"), "data_directory": str(tmp_path / "data")}
    import getpass

    create_missing(SimpleNamespace(**names, mail_owner=getpass.getuser(), setgid_group="nosuch"))
    modes = {entry.name: oct(entry.stat().st_mode & 0o7777) for entry in os.scandir(tmp_path / "queue")}
    assert modes == {
        **dict.fromkeys(PRIVATE.split(), "0o700"),
        "maildrop": maildrop,
        "public": public,
        "pid": "0o755",
    }
    assert oct(os.stat(tmp_path / "data").st_mode & 0o7777) == "0o700"


def test_leaves_alone_what_is_there(tmp_path):
    found = view(tmp_path)
    os.chmod(tmp_path / "queue/active", 0o750)
    create_missing(found)
    assert os.stat(tmp_path / "queue/active").st_mode & 0o777 == 0o750


def test_a_file_in_the_way(tmp_path):
    found = view(tmp_path)
    (tmp_path / "queue/hold").rmdir()
    (tmp_path / "queue/hold").touch()
    with pytest.raises(FatalError, match="hold: is not a directory"):
        create_missing(found)
