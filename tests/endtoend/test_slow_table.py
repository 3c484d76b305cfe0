"""Mail whose route hangs on a table server that is away, silent, or lies: deferred, and delivered once it answers.

Nothing is restarted, and nothing is lost.
"""

import re
import socket
import threading
from pathlib import Path

import pytest
from harness import running

pytestmark = pytest.mark.xdist_group("endtoend")


class Memcached:
    """A memcached without entries, on a port of loopback, that does as it is told."""

    def __init__(self) -> None:
        self.mood = "good"
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self.listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client:
            while self.mood != "away" and client.recv(1000):
                match self.mood:
                    case "silent":
                        continue
                    case "lies":
                        client.sendall(b"VALUE x 0 99999999999999999999\r\n\0\xff")
                    case "good":
                        client.sendall(b"END\r\n")

    def close(self) -> None:
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()


def resolvers(log: str) -> set[str]:
    """The ids of the trivial-rewrite processes that have logged something: what the table could not answer."""
    found = {match[1] for match in re.finditer(r"trivial-rewrite\[(\d+)\]: warning: ", log)}
    assert len(found) == 1, log
    return found


@pytest.mark.parametrize("mood", ["away", "silent", "lies"])
def test_mail_waits_for_the_table(module_path: Path, mood: str) -> None:
    server = Memcached()
    server.mood = mood
    table = module_path / f"{mood}.cf"
    table.write_text(f"memcache = inet:127.0.0.1:{server.port}\ntimeout = 1\nmax_try = 1\n")
    directory = module_path / mood
    directory.mkdir()
    try:
        with running(directory, transport_maps=f"memcache:{table}", smtp_tls_security_level="none") as (system, sink):
            assert system.process is not None
            master = system.process.pid
            system.check("sendmail", "-f", "ann@example.com", "user@example.org", stdin="Subject: hello\n\nhello\n")
            system.wait_for(lambda: "status=deferred" in system.log(), "the deferral")
            assert sink.recipients() == []
            before = resolvers(system.log())
            server.mood = "good"
            system.check("postqueue", "-f")
            system.wait_for(lambda: sink.recipients() == ["user@example.org"], "the delivery")
            system.wait_for(lambda: system.queued() == [], "an empty queue")
            assert (system.process.pid, resolvers(system.log())) == (master, before)
    finally:
        server.close()
