import os
import subprocess
import sys

import pytest

from tests.ipc.processes import configuration, environment


def postlog(tmp_path, *words, text="", main="", **env):
    etc = configuration(tmp_path, main=main)
    return subprocess.run(
        [sys.executable, "-m", "postfixpy", "postlog", "-c", str(etc), *words],
        input=text.encode("utf-8", "surrogateescape"),
        capture_output=True,
        env=environment(etc, **env),
    )


def test_text_and_lines(tmp_path):
    out = postlog(tmp_path, "-t", "my\ttag", "-i", "two", "words").stdout.decode()
    assert out[15:].split("[")[0] == " test my?tag"
    assert out.endswith("]: two words\n")
    lines = postlog(tmp_path, "-p", "WARNING", text="a\nb\udce9\n\nc").stdout.decode().splitlines()
    assert [line.partition("]: ")[2] for line in lines] == ["warning: " + text for text in ("a", "b?", "", "c")]


@pytest.mark.parametrize(
    ("level", "prefix"), [("info", ""), ("warn", "warning: "), ("err", "error: "), ("error", "error: ")]
)
def test_severities(tmp_path, level, prefix):
    assert postlog(tmp_path, "-p", level, "x").stdout.decode().endswith(f"]: {prefix}x\n")


def test_to_the_file_when_no_mail_system_runs(tmp_path):
    result = postlog(
        tmp_path, "x", main=f"maillog_file = {tmp_path}/log\nmaillog_file_prefixes = {tmp_path}", POSTFIXPY_LOG=""
    )
    assert result.returncode == 0
    assert (tmp_path / "log").read_text().endswith("]: x\n")
    assert result.stderr == b"postfix/postlog: x\n"


def test_before_3_8_nothing_but_a_terminal_is_told(tmp_path):
    result = postlog(tmp_path, "x", POSTFIXPY_VERSION="3.7")
    assert result.stdout.endswith(b"]: x\n")
    assert result.stderr == b""


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["-p", "foo", "x"], 'postlog: fatal: bad severity: "foo"\n'),
        (["-x"], "postlog: fatal: usage: postlog [-c config_dir] [-i] [-p priority] [-t tag] [-v] [text]\n"),
    ],
)
def test_usage(tmp_path, words, text):
    result = postlog(tmp_path, *words)
    assert result.stderr.decode().endswith(text)
    assert result.returncode == 1


def test_a_configuration_that_is_not_there():
    result = subprocess.run(
        [sys.executable, "-m", "postfixpy", "postlog", "-c", "/no/such", "x"],
        capture_output=True,
        env={**os.environ},
    )
    assert result.stderr == b"postlog: fatal: open /no/such/main.cf: No such file or directory\n"
    assert result.returncode == 1
