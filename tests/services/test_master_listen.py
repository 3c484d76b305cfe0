import errno
import os
import socket
import stat

import pytest

from postfixpy.config.master_cf import RowDefaults, parse_row
from postfixpy.errors import FatalError
from postfixpy.services import master_listen as listen

V4, V6 = int(socket.AF_INET), int(socket.AF_INET6)


def row(name: str, kind: str = "inet", private: str = "n"):
    return parse_row(f"{name} {kind} {private} - n - - smtpd", "master.cf: line 1", RowDefaults(100, False))


@pytest.mark.parametrize(
    ("entry", "name"),
    [
        (row("smtp", "unix", "y"), "private/smtp"),
        (row("qmgr", "fifo"), "public/qmgr"),
        (row("smtp"), "25"),
        (row("2525"), "2525"),
        (row("127.0.0.1:smtp"), "[127.0.0.1]:25"),
        (row("[::1]:10025"), "[::1]:10025"),
        (row("no-such-service"), "no-such-service"),
    ],
)
def test_internal_names(entry, name):
    assert listen.internal_name(entry) == name


@pytest.mark.parametrize("name", ["[::1", "[::1]", "[::1]x", "host:"])
def test_malformed_names(name):
    with pytest.raises(FatalError, match="missing"):
        listen.host_port(name)


def test_addresses():
    assert listen.addresses(row("25"), "all", "ipv4") == [(V4, "0.0.0.0")]
    assert listen.addresses(row("25"), "loopback-only", "ipv4") == [(V4, "127.0.0.1")]
    assert listen.addresses(row("25"), "127.0.0.1, 127.0.0.2 127.0.0.1", "ipv4") == [
        (V4, "127.0.0.1"),
        (V4, "127.0.0.2"),
    ]
    assert listen.addresses(row("127.0.0.3:25"), "all", "ipv4") == [(V4, "127.0.0.3")]
    if V6 in listen.families("all"):
        assert listen.addresses(row("25"), "all", "all") == [(V4, "0.0.0.0"), (V6, "::")]
        assert listen.addresses(row("[::1]:25"), "all", "all") == [(V6, "::1")]
    with pytest.raises(FatalError, match="bad hostname or network address"):
        listen.addresses(row("[::1]:25"), "all", "ipv4")
    with pytest.raises(FatalError, match='unknown inet_protocols value "ipx" in "ipx"'):
        listen.families("ipx")


def test_loopback_only():
    assert listen.loopback_only([(V4, "127.0.0.1"), (V6, "::1")])
    assert not listen.loopback_only([(V4, "127.0.0.1"), (V4, "0.0.0.0")])


def test_a_port_in_use():
    first = listen.listen_inet((V4, "127.0.0.1"), "0", 5)
    port = first.getsockname()[1]
    with first, pytest.raises(FatalError) as caught:
        listen.listen_inet((V4, "127.0.0.1"), str(port), 5)
    assert str(caught.value) == f"bind 127.0.0.1 port {port}: Address already in use"
    with pytest.raises(FatalError, match="no-such-service"):
        listen.listen_inet((V4, "127.0.0.1"), "no-such-service", 5)
    with pytest.raises(FatalError, match="port 70000: Invalid argument"):
        listen.listen_inet((V4, "127.0.0.1"), "70000", 5)


def test_end_points_in_the_queue_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    old = os.umask(0o077)
    try:
        (tmp_path / "s").write_text("left over")
        with listen.listen_unix("s", 5), listen.listen_unix("d", 0, socket.SOCK_DGRAM):
            assert [oct(os.stat(name).st_mode & 0o777) for name in "sd"] == ["0o666", "0o666"]
            with socket.socket(socket.AF_UNIX) as client:
                client.connect("s")
        fd = listen.listen_fifo("f")
        assert stat.S_ISFIFO(os.stat("f").st_mode)
        assert os.stat("f").st_mode & 0o777 == 0o622
        os.close(fd)
    finally:
        os.umask(old)
    (tmp_path / "directory").mkdir()
    with pytest.raises(FatalError, match="remove directory: Is a directory"):
        listen.listen_unix("directory", 5)
    with pytest.raises(FatalError, match="bind: no/such: No such file or directory"):
        listen.listen_unix("no/such", 5)
    with pytest.raises(FatalError, match="unix-domain name too long"):
        listen.listen_unix("x" * 120, 5)


def test_as_owner_without_root_is_just_done():
    assert listen.as_owner(None, lambda: 7) == 7


def test_a_port_that_needs_root(monkeypatch):
    class Refused(socket.socket):
        def bind(self, address):
            raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(socket, "socket", Refused)
    with pytest.raises(listen.NotAllowed, match=r"bind 127\.0\.0\.1 port 1: Permission denied"):
        listen.listen_inet((V4, "127.0.0.1"), "1", 5)
