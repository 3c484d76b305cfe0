"""The smtp and lmtp services: a request of the queue manager over real sockets. The client has tests of its own."""

from pathlib import Path

import pytest

from postfixpy.errors import FatalError
from postfixpy.ipc import bounce
from postfixpy.ipc.service import Context
from postfixpy.mail.delivery import DeliveryRequest
from postfixpy.services.smtp import Smtp
from tests.ipc.mail_system import MailSystem
from tests.smtp.scripted import ScriptedServer, good

from .agent_client import deliver, kinds, queue_message


def queued(*addresses: str) -> DeliveryRequest:
    """A message in the queue, and a request whose offset is that of its content."""
    request: DeliveryRequest = queue_message(*addresses)
    request.offset = Path("active", request.queue_id).read_bytes().index(b"M\0") + 2
    return request


def test_delivered(tmp_path: Path) -> None:
    with MailSystem(tmp_path) as system, ScriptedServer(good()) as server:
        request = queued("a@example.com")
        request.nexthop = f"[127.0.0.1]:{server.port}"
        assert deliver(system, Smtp, request, service="smtp") == (None, 0)
        assert kinds(request) == "D"
        assert f"relay=127.0.0.1[127.0.0.1]:{server.port}, " in system.log[-1]
        assert system.log[-1].endswith("dsn=2.0.0, status=sent (250 2.0.0 queued)")
    assert b"\r\nSubject: hi\r\n.\r\n" in server.received[0]


def test_nobody_listens(tmp_path: Path) -> None:
    with MailSystem(tmp_path) as system:
        system.service("private/defer", bounce.ANNOUNCEMENT)
        request = queued("a@example.com", "b@example.com")
        request.nexthop = "[127.0.0.1]:1"
        hop, status = deliver(system, Smtp, request, service="smtp")
        assert (hop.status, status) == ("4.4.1", -1)
        assert hop.reason == "connect to 127.0.0.1[127.0.0.1]:1: Connection refused"
        assert kinds(request) == "RR"
        assert len(system.requests("private/defer")) == 2


def test_lmtp_over_a_unix_socket(tmp_path: Path) -> None:
    with (
        MailSystem(tmp_path) as system,
        ScriptedServer(good(None, b"221 bye\r\n"), path=str(tmp_path / "private/lmtpd")) as server,
    ):
        request = queued("a@example.com")
        request.nexthop = "unix:private/lmtpd"
        assert deliver(system, Smtp, request, service="lmtp") == (None, 0)
        assert "relay=host.example.com[private/lmtpd], " in system.log[-1]
    assert server.received[0].startswith(b"LHLO host.example.com\r\n")


def test_damaged_queue_file(tmp_path: Path) -> None:
    """Content that does not end as it should: bounced, and the queue file is put aside."""
    with MailSystem(tmp_path) as system, ScriptedServer(good()) as server:
        system.service("private/bounce", bounce.ANNOUNCEMENT)
        request = queued("a@example.com")
        path = tmp_path / "active" / request.queue_id
        path.write_bytes(path.read_bytes().replace(b"X\0E\0", b"E\0"))
        request.nexthop = f"[127.0.0.1]:{server.port}"
        assert deliver(system, Smtp, request, service="smtp") == (None, 0)
        assert path.stat().st_mode & 0o777 == 0o400
        assert any("bad record type: 69 in message content" in line for line in system.log)
    assert b"\r\n.\r\n" not in server.received[0]


def test_program_name() -> None:
    with pytest.raises(FatalError, match='unexpected process name "other" - specify "smtp" or "lmtp"'):
        Smtp(Context(None, MailSystemView(), "other", "other"))  # type: ignore[arg-type]  # nothing of them is used


class MailSystemView:
    hash_queue_names = ""
    hash_queue_depth = 1
