"""A real dovecot for tests: its auth service and its submission service, on loopback, with one user."""

import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

USER, PASSWORD, TOKEN = "alice", "w0nder land", "t0ken"
MECHANISMS = ("PLAIN", "LOGIN", "CRAM-MD5", "DIGEST-MD5", "SCRAM-SHA-1", "SCRAM-SHA-256", "XOAUTH2", "OAUTHBEARER")

_CONFIGURATION = """\
protocols = submission
base_dir = {run}
state_dir = {run}
log_path = {directory}/log
auth_verbose = yes
ssl = no
disable_plaintext_auth = no
auth_mechanisms = {mechanisms}
auth_failure_delay = 0
listen = 127.0.0.1
hostname = dovecot.example
mail_location = maildir:{directory}/mail
passdb {{
  driver = passwd-file
  args = username_format=%u {directory}/users
}}
passdb {{
  driver = oauth2
  mechanisms = xoauth2 oauthbearer
  args = {directory}/oauth2
}}
userdb {{
  driver = static
  args = uid=nobody gid=nogroup home={directory}/mail
}}
service submission-login {{
  inet_listener submission {{
    port = {port}
  }}
}}
service auth {{
  unix_listener auth-client {{
    mode = 0666
  }}
}}
service stats {{
  unix_listener stats-writer {{
    mode = 0666
  }}
}}
submission_relay_host = 127.0.0.1
submission_relay_port = {relay}
"""


class Dovecot:
    """`path` is the socket of the auth service, `port` that of submission."""

    def __init__(self, directory: Path, introspection: str = "http://127.0.0.1:9/", relay: int = 9) -> None:
        directory.chmod(0o755)
        self.directory = directory
        self.port = free_port()
        self.path = str(directory / "run/auth-client")
        self._configuration = directory / "dovecot.conf"
        self._configuration.write_text(
            _CONFIGURATION.format(
                directory=directory,
                run=directory / "run",
                mechanisms=" ".join(MECHANISMS).lower(),
                port=self.port,
                relay=relay,
            )
        )
        (directory / "users").write_text(f"{USER}:{{PLAIN}}{PASSWORD}::::::\n")
        (directory / "mail").mkdir()
        shutil.chown(directory / "mail", "nobody")
        (directory / "oauth2").write_text(
            f"introspection_url = {introspection}\nintrospection_mode = post\nusername_attribute = username\n"
            "active_attribute = active\nactive_value = true\n"
        )
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self._process = subprocess.Popen(
            ["dovecot", "-F", "-c", str(self._configuration)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        end = time.monotonic() + 20
        while not self._serves():
            if time.monotonic() > end or self._process.poll() is not None:
                raise RuntimeError(f"dovecot does not start:\n{self.log()}")
            time.sleep(0.02)

    def _serves(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), 1), socket.socket(socket.AF_UNIX) as auth:
                auth.connect(self.path)
                return True
        except OSError:
            return False

    def stop(self) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGTERM)
            self._process.wait(20)
            self._process = None

    def log(self) -> str:
        path = self.directory / "log"
        return path.read_text(errors="replace") if path.exists() else ""


@contextmanager
def running(introspection: str = "http://127.0.0.1:9/", relay: int = 9) -> Iterator[Dovecot]:
    """A dovecot, until the end of the block. Its folder is one that its own users can enter."""
    with tempfile.TemporaryDirectory(prefix="dovecot") as directory:
        server = Dovecot(Path(directory), introspection, relay)
        try:
            server.start()
            yield server
        finally:
            server.stop()


def free_port() -> int:
    """A port of loopback that nobody has now."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port
