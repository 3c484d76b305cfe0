"""A full disk: submission is refused in Postfix's words, what was accepted is delivered, nothing is lost."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness import MailSystem, Sink

pytestmark = pytest.mark.load


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 4 MiB. Mounting one takes root: .ci/run is root."""
    assert os.geteuid() == 0, "run this as root: it mounts a small tmpfs"
    place = tmp_path / "disk"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m,mode=755", "tmpfs", str(place)], check=True)
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


def test_a_full_disk_loses_nothing(small_disk: Path, tmp_path: Path) -> None:
    sink = Sink(tmp_path)
    # queue_minfree off: the writes themselves must fail; the next test has it on.
    relay = f"[127.0.0.1]:{sink.port}"
    system = MailSystem(small_disk, relayhost=relay, message_size_limit="3000000", smtp_tls_security_level="none")
    system.log_path = tmp_path / "maillog"
    try:
        system.start()
        accepted, refused = [], []
        ballast = small_disk / "ballast"
        for number in range(12):
            if number == 4:
                with open(ballast, "wb") as fill:
                    try:
                        while True:
                            fill.write(b"x" * 65536)
                            fill.flush()
                    except OSError:
                        pass  # full, as wanted
            to = f"r{number}@example.org"
            message = f"Subject: {number}\n\n" + ("x" * 70 + "\n") * 3000
            done = system.command("sendmail", "-f", "sender@example.com", to, stdin=message)
            assert "Traceback" not in done.stdout + done.stderr
            (refused if done.returncode else accepted).append(to)
            if done.returncode:
                assert "No space left on device" in done.stderr or "insufficient" in done.stderr.lower(), done.stderr
                assert done.returncode == 75, done.stderr
        assert refused, "the disk was never full"
        ballast.unlink()
        system.wait_for(lambda: {*accepted} <= {*sink.recipients()}, "every accepted message", 120)
        system.wait_for(lambda: not system.queued(), "an empty queue", 60)
        assert {*sink.recipients()} == {*accepted}
        assert "Traceback" not in system.log()
    finally:
        system.stop()
        sink.stop()
