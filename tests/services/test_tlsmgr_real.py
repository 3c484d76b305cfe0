"""Our client with the real tlsmgr(8), and a cache that goes from one to the other."""

import asyncio
import os
import pwd
import shutil
import sys
from pathlib import Path

import pytest

from postfixpy.ipc.tlsmgr import TlsmgrClient

sys.path.insert(0, str(Path(__file__).parents[2] / "tools"))

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(not os.path.exists("/usr/lib/postfix/sbin/tlsmgr"), reason="needs Postfix"),
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
]


def test_sessions_in_the_real_service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from recorder import programs

    directory = Path("/tmp") / f"tlsmgr-{os.getpid()}"  # the socket's path must be short, and the user's way there open
    owner = pwd.getpwnam("postfix")
    for name in ("etc", "private", "public", "pid", "lib"):
        (directory / name).mkdir(parents=True)
    os.chown(directory / "lib", owner.pw_uid, owner.pw_gid)
    (directory / "etc/main.cf").write_text(
        f"compatibility_level = 3.6\nqueue_directory = {directory}\ndata_directory = {directory}/lib\n"
        "smtp_tls_session_cache_database = btree:$data_directory/smtp_scache\nmaillog_file = /var/log/x\n"
        "smtp_tls_session_cache_timeout = 500s\n"
    )
    (directory / "etc/master.cf").write_text("")
    monkeypatch.setenv("POSTFIXPY_VERSION", programs.machine_release())
    process = programs.Process(programs.real(programs.machine_release()), "tlsmgr", str(directory), ["-l"])

    async def ask() -> None:
        client = TlsmgrClient(process.path, timeout=5)
        assert await client.policy("smtp") == (True, 500)
        assert await client.find("smtp", "key") == b""
        await client.save("smtp", "key", b"session\0\xff")
        assert await client.find("smtp", "key") == b"session\0\xff"
        await client.save("smtp", "key", b"")
        assert await client.find("smtp", "key") == b""
        client.close()

    try:
        asyncio.run(ask())
    finally:
        process.stop()
        process._listener.close()
        process._status.close()
        shutil.rmtree(directory)
