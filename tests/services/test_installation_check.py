import os
import shutil

from postfixpy.config import load
from postfixpy.services.installation_check import fatal_problem, warnings
from postfixpy.services.queue_directories import create_missing
from tests.ipc.processes import OWNER, configuration


def system(base, master="", main=""):
    config = load(str(configuration(base, master, main)))
    view = config.view()
    create_missing(view)
    for name in ("queue", "etc"):
        os.chmod(base / name, 0o755)
        for entry in os.scandir(base / name):
            os.chmod(entry, 0o700)
    return config, view


def give(path):
    """Give a file to the mail owner."""
    if os.geteuid() == 0:
        shutil.chown(path, OWNER)


def relevant(config, view):
    return [text for text in warnings(config, view) if "not owned by group" not in text]


def test_nothing_wrong(tmp_path):
    config, view = system(tmp_path)
    assert relevant(config, view) == []
    assert fatal_problem(config) is None


def test_what_is_wrong(tmp_path):
    config, view = system(tmp_path)
    os.chmod(tmp_path / "queue/pid", 0o775)
    os.chmod(tmp_path / "etc/main.cf", 0o666)
    (tmp_path / "queue/corrupt/ABC").touch()
    give(tmp_path / "queue/corrupt/ABC")
    (tmp_path / "queue/etc").mkdir()
    (tmp_path / "queue/etc/passwd").write_text("another")
    assert relevant(config, view) == [
        f"group or other writable: {tmp_path}/queue/pid",
        f"group or other writable: {tmp_path}/etc/main.cf",
        f"{tmp_path}/queue/etc/passwd and /etc/passwd differ",
        "damaged message: corrupt/ABC",
    ]


def test_a_queue_inside_the_configuration_directory_has_its_own_rules(tmp_path):
    inside = {"queue_directory": f"{tmp_path}/etc/spool", "data_directory": f"{tmp_path}/etc/lib"}
    (tmp_path / "etc/spool").mkdir(parents=True)
    config, view = system(tmp_path, main="\n".join(f"{name} = {value}" for name, value in inside.items()))
    os.chmod(tmp_path / "etc/spool/maildrop", 0o730)
    (tmp_path / "etc/spool/public/pickup").touch()
    give(tmp_path / "etc/spool/public/pickup")
    os.chmod(tmp_path / "etc/spool/public/pickup", 0o666)
    assert relevant(config, view) == []
    (tmp_path / "etc/more").mkdir()
    (tmp_path / "etc/more/table").touch()
    os.chmod(tmp_path / "etc/more/table", 0o666)
    assert relevant(config, view) == [f"group or other writable: {tmp_path}/etc/more/table"]


def test_what_prevents_a_start(tmp_path):
    config, _ = system(tmp_path, main="maillog_file = /var/log/x")
    missing = "missing 'postlog' service in master.cf - run 'postfix upgrade-configuration'"
    assert fatal_problem(config) == (missing if os.geteuid() == 0 else None)
    (tmp_path / "etc/master.cf").unlink()
    assert fatal_problem(config) == f"no {tmp_path}/etc/master.cf file found"
