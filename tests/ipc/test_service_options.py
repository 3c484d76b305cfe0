import pytest

from postfixpy.errors import FatalError
from postfixpy.ipc.service_options import Options, check_transport, parse_generation, parse_options


def test_what_master_gives():
    argv = ["smtp", "-n", "relay", "-t", "unix", "-d", "-v", "-u", "-c", "-o", "syslog_name=postfix/relay", "-o"]
    options = parse_options([*argv, " helo = x ", "flags=DR"])
    assert options == Options(
        program="smtp",
        service="relay",
        transport="unix",
        overrides=[("syslog_name", "postfix/relay"), ("helo", "x")],
        chroot=True,
        unprivileged=True,
        daemon=False,
        verbose=1,
        words=["flags=DR"],
    )


def test_the_program_is_the_base_name():
    assert parse_options(["/usr/lib/postfix/sbin/lmtp", "-l", "-s", "3", "-r", "9", "-i", "5", "-m", "7"]) == Options(
        "lmtp", "lmtp", alone=True, sockets=3, retire=9, overrides=[("max_idle", "5"), ("max_use", "7")]
    )


def test_transport():
    check_transport(Options("x", "x", stand_alone=True), ("unix",))
    options = Options("x", "x", transport="UNIX")
    check_transport(options, ("unix",))
    assert options.transport == "unix"


@pytest.mark.parametrize(("text", "number"), [(None, 0), ("0", 0), ("12", 10), ("777777", 0o777777)])
def test_generation(text, number):
    assert parse_generation(text) == number


@pytest.mark.parametrize("text", ["", "8", "-1", "x", " 1"])
def test_bad_generation(text):
    with pytest.raises(FatalError, match="bad generation"):
        parse_generation(text)
