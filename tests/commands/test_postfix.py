"""postfix(1), with the echo services as the mail system."""

import os
import pty
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.ipc.processes import configuration, environment, until

MASTER_CF = "echo unix - n n - 2 echo\npostlog unix-dgram n n n - 1 postlogd\n"


class System:
    """A mail system of a test; the log is a file."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.etc = configuration(
            base, MASTER_CF, f"maillog_file = {base}/log\nmaillog_file_prefixes = {base}, /dev/stdout"
        )
        self.env = environment(self.etc)
        del self.env["POSTFIXPY_LOG"], self.env["MAIL_CONFIG"]
        os.chmod(base / "etc/main.cf", 0o644)

    def set(self, **parameters: str) -> None:
        path = self.base / "etc/main.cf"
        lines = [line for line in path.read_text().splitlines() if line.split(" ")[0] not in parameters]
        path.write_text("\n".join([*lines, *(f"{name} = {value}" for name, value in parameters.items()), ""]))

    def command(self, *words: str) -> list[str]:
        return [sys.executable, "-m", "postfixpy", "postfix", "-c", str(self.etc), *words]

    def __call__(self, *words: str) -> int:
        return subprocess.run(self.command(*words), env=self.env, capture_output=True, timeout=60).returncode

    @property
    def log(self) -> str:
        path = self.base / "log"
        return path.read_text() if path.exists() else ""

    @property
    def pid(self) -> int:
        return int((self.base / "queue/pid/master.pid").read_text())

    @property
    def texts(self) -> list[str]:
        """What postfix-script said, without warnings."""
        return [t for t in re.findall(r"postfix/postfix-script\[\d+\]: (.*)", self.log) if "warning:" not in t]


@pytest.fixture
def system(tmp_path):
    found = System(tmp_path)
    yield found
    if (tmp_path / "queue/pid/master.pid").exists() and found("status") == 0:
        os.killpg(found.pid, signal.SIGKILL)


def test_the_life_of_a_mail_system(system, tmp_path):
    assert system("status") == 1
    assert system("start") == 0
    assert system("status") == 0
    pid = system.pid
    assert os.getsid(pid) == pid
    assert system("start") == 1
    assert system("reload") == 0
    until(lambda: "reload -- version" in system.log)
    assert system("stop") == 0
    assert system("stop") == 1
    assert system.texts == [
        "the Postfix mail system is not running",
        "starting the Postfix mail system",
        f"the Postfix mail system is running: PID: {pid}",
        "fatal: the Postfix mail system is already running",
        "refreshing the Postfix mail system",
        "stopping the Postfix mail system",
        "fatal: the Postfix mail system is not running",
    ]
    until(lambda: not Path(f"/proc/{pid}").exists())


def test_in_the_foreground_with_the_log_on_standard_output(system, tmp_path):
    system.set(maillog_file="/dev/stdout")
    if os.geteuid() != 0:
        (tmp_path / "etc/master.cf").write_text("echo unix - n n - 2 echo\n")  # the log service is implied
    process = subprocess.Popen(
        system.command("start-fg"), env=system.env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    lines = [process.stdout.readline() for _ in range(2)]
    while "daemon started" not in lines[-1]:
        assert lines[-1], lines  # it has ended
        lines.append(process.stdout.readline())
    assert any("postfix/postfix-script" in line and "starting the Postfix mail system" in line for line in lines)
    assert re.search(r"postfix/master\[\d+\]: daemon started -- version ", lines[-1])
    process.terminate()
    rest = process.communicate(timeout=20)[0]
    assert process.returncode == -signal.SIGTERM
    assert "terminating on signal 15" in rest


def test_at_a_terminal_people_are_told(system):
    near, far = pty.openpty()
    subprocess.run(system.command("status"), env=system.env, stdin=subprocess.DEVNULL, stdout=far, stderr=far)
    assert os.read(near, 1000) == b"postfix/postfix-script: the Postfix mail system is not running\r\n"
    os.close(near)
    os.close(far)


def test_elsewhere_they_are_told_too(system, tmp_path):
    def said(*words: str) -> list[str]:
        result = subprocess.run(system.command(*words), env=system.env, capture_output=True, text=True)
        assert result.stdout == ""
        return result.stderr.splitlines()

    name = "postfix/postfix-script: "
    assert said("stop") == [name + "fatal: the Postfix mail system is not running"]
    assert said("status") == [name + "the Postfix mail system is not running"]
    (tmp_path / "queue/corrupt/ABC").touch()
    assert [line for line in said("check") if "damaged" in line] == [name + "warning: damaged message: corrupt/ABC"]
    assert [line for line in said("start") if "warning" not in line] == [name + "starting the Postfix mail system"]
    assert said("status") == [f"{name}the Postfix mail system is running: PID: {system.pid}"]
    assert said("stop") == [name + "stopping the Postfix mail system"]


def test_nothing_is_said_twice_where_the_log_is(system):
    system.set(maillog_file="/dev/stdout")
    result = subprocess.run(system.command("stop"), env=system.env, capture_output=True, text=True)
    assert (result.stdout + result.stderr).count("the Postfix mail system is not running") == 1


@pytest.mark.parametrize(
    ("row", "text"),
    [
        ("foo bar", "file {}: line 2: bad field count"),
        ("foo xxx - - n - - smtp", 'invalid type field "xxx" in "foo xxx - - n - - smtp"'),
        ("foo unix - - q - - smtp", 'invalid chroot field "q" in "foo unix - - q - - smtp"'),
        ("foo unix - - n x - smtp", 'invalid wakeup field "x" in "foo unix - - n x - smtp"'),
        ("foo unix - - n - x smtp", 'invalid process_limit field "x" in "foo unix - - n - x smtp"'),
    ],
)
def test_a_row_that_is_malformed(system, tmp_path, row, text):
    path = tmp_path / "etc/master.cf"
    path.write_text(f"postlog unix-dgram n n n - 1 postlogd\n{row}\n")
    for command in ("check", "start", "status", "reload"):
        done = subprocess.run(system.command(command), env=system.env, capture_output=True, text=True)
        assert (command, done.returncode) == (command, 1)
        assert f"/postconf: fatal: {text.format(path)}\n" in done.stderr
        assert "/postconf!\n" in done.stderr and "fatal: cannot execute /" in done.stderr
    assert system("stop") == 1
    assert system.texts[-1] == "fatal: the Postfix mail system is not running"


def test_a_bad_option_in_an_unused_row_stops_nothing(system, tmp_path):
    rows = MASTER_CF + "foo unix - - n - - smtp -o foo\n"
    (tmp_path / "etc/master.cf").write_text(rows)
    assert system("start") == 0
    (tmp_path / "etc/master.cf").write_text(rows + "bar unix - - n - - echo -o\n")
    assert system("reload") == 0
    until(lambda: "reload -- version" in system.log)
    until(lambda: (tmp_path / "queue/private/bar").exists())
    assert "invalid" not in system.log
    assert system("stop") == 0


def test_a_log_file_without_a_log_service(system, tmp_path):
    (tmp_path / "etc/master.cf").write_text("echo unix - n n - 2 echo\n")
    if os.geteuid() == 0:
        assert (system("check"), system("start")) == (1, 1)
        missing = "fatal: missing 'postlog' service in master.cf - run 'postfix upgrade-configuration'"
        assert system.texts == [missing, missing, "fatal: Postfix integrity check failed!"]
        return
    assert system("check") == 0
    assert system("start") == 0
    assert "warning: missing 'postlog' service in master.cf - using" in system.log
    assert system("stop") == 0


@pytest.mark.parametrize("name", ["stop", "abort", "reload", "drain"])
def test_needs_a_running_system(system, name):
    assert system(name) == 1
    assert system.texts == ["fatal: the Postfix mail system is not running"]


def test_abort_and_drain(system):
    for name, text in (("abort", "aborting"), ("drain", "stopping")):
        assert system("start") == 0
        pid = system.pid
        assert system(name) == 0
        assert f"{text} the Postfix mail system" in system.texts
        until(lambda pid=pid: not Path(f"/proc/{pid}").exists())


def test_quick_stop_skips_the_checks_of_the_next_start(system, tmp_path):
    assert system("start") == 0
    assert system("quick-stop") == 0
    assert (tmp_path / "queue/quick-start").exists()
    (tmp_path / "etc/master.cf").unlink()
    assert system("start") == 1
    assert system.texts[-1] == "fatal: mail system startup failed"
    assert not (tmp_path / "queue/quick-start").exists()


def test_check(system, tmp_path):
    assert system("check") == 0
    (tmp_path / "queue/hold").rmdir()
    (tmp_path / "queue/corrupt/ABC").touch()
    assert system("check") == 0
    assert (tmp_path / "queue/hold").is_dir()
    assert "warning: damaged message: corrupt/ABC" in system.log
    (tmp_path / "etc/master.cf").unlink()
    assert system("start") == 1
    assert system.texts[-2:] == [
        f"fatal: no {tmp_path}/etc/master.cf file found",
        "fatal: Postfix integrity check failed!",
    ]


def test_logrotate(system, tmp_path):
    assert system("start") == 0
    (tmp_path / "log").write_text("old\n")
    system.set(maillog_file_compressor="gzip", maillog_file_rotate_suffix="%Y")
    assert system("logrotate") == 0
    assert [path.name for path in tmp_path.glob("log.*.gz")]
    assert system("stop") == 0
    system.set(maillog_file="/dev/stdout")
    result = subprocess.run(system.command("logrotate"), env=system.env, capture_output=True, text=True)
    assert "fatal: not rotating '/dev/stdout'" in result.stdout
    assert result.returncode == 1


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["-x"], "postfix: invalid option -- 'x'\npostfix: fatal: usage: postfix [-c config_dir] [-Dv] command\n"),
        (["-c", "relative", "status"], "postfix: fatal: -c requires absolute pathname\n"),
        (["-c", "/no/such", "status"], "postfix: fatal: open /no/such/main.cf: No such file or directory\n"),
    ],
)
def test_usage(system, words, text):
    result = subprocess.run(
        [sys.executable, "-m", "postfixpy", "postfix", *words], env=system.env, capture_output=True, text=True
    )
    assert (result.stderr, result.returncode) == (text, 1)


def test_a_queue_that_is_not_there(system):
    system.set(queue_directory="/no/such")
    result = subprocess.run(system.command("start"), env=system.env, capture_output=True, text=True)
    assert (result.stderr, result.returncode) == ("postfix: fatal: chdir(/no/such): No such file or directory\n", 1)
    assert re.search(r" postfix\[\d+\]: fatal: chdir", system.log)


def test_unknown_commands(system):
    assert system("frobnicate") == 1
    assert system("tls") == 1
    assert system.texts[0].startswith("fatal: unknown command: 'frobnicate'. Usage: postfix start (or stop, reload")
    assert system.texts[1].startswith("fatal: tls is the business of an installed Postfix")


def test_old_compatibility_levels_are_told(system):
    system.set(compatibility_level="2")
    result = subprocess.run(system.command("status"), env=system.env, capture_output=True, text=True)
    assert result.stderr.splitlines() == [
        "postfix: Postfix is using backwards-compatible default settings",
        "postfix: See https://www.postfix.org/COMPATIBILITY_README.html for details",
        'postfix: To disable backwards compatibility use "postconf compatibility_level=3.11" and "postfix reload"',
        "postfix/postfix-script: the Postfix mail system is not running",
    ]
    assert len(re.findall(r" postfix\[\d+\]: ", system.log)) == 3
    system.set(compatibility_level="3.11")
    result = subprocess.run(system.command("status"), env=system.env, capture_output=True, text=True)
    assert "compatib" not in result.stderr


def test_several_instances_are_handed_to_their_manager(system):
    system.set(multi_instance_directories="/a", multi_instance_wrapper="echo manager")
    result = subprocess.run(
        [
            sys.executable,
            "-c",
            "import sys; from postfixpy import config; from postfixpy.commands import postfix\n"
            f"found = config.load({str(system.etc)!r}); config.load = lambda: found\n"
            "sys.exit(postfix.main(['postfix', 'status']))",
        ],
        env=system.env,
        capture_output=True,
        text=True,
    )
    assert result.stdout == "manager status\n", result.stderr
    assert system("start-fg") == 1
    assert "fatal: start-fg does not support multi_instance_directories" in system.texts
