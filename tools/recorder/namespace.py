"""Namespaces of its own for this process: addresses, ports, /etc/resolv.conf and the host name are the scenarios'."""

import ctypes
import os
import socket
import subprocess
import tempfile

CLONE_NEWNS = 0x00020000
CLONE_NEWUTS = 0x04000000
CLONE_NEWNET = 0x40000000
RESOLV_CONF = "nameserver 127.0.0.53\noptions timeout:1 attempts:1\n"


def enter() -> None:
    """Move this process, which has one thread, into new network and mount namespaces. Needs root."""
    library = ctypes.CDLL(None, use_errno=True)
    if library.unshare(CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWNET):
        raise SystemExit(f"namespaces of its own: {os.strerror(ctypes.get_errno())}; root is needed")
    socket.sethostname("client.example")
    with tempfile.NamedTemporaryFile("w", suffix=".resolv.conf") as file:
        file.write(RESOLV_CONF)
        file.flush()
        os.chmod(file.name, 0o644)
        script = f"mount --make-rprivate / && mount --bind {file.name} /etc/resolv.conf && ip link set lo up"
        script += " && ip route add 192.0.2.0/24 dev lo"  # what is sent there is not for us, and dropped
        subprocess.run(["sh", "-c", script], check=True)


def set_hosts(root: str, lines: list[str]) -> None:
    """Put `lines` in the place of /etc/hosts, of a root or of the machine."""
    with tempfile.NamedTemporaryFile("w", suffix=".hosts") as file:
        file.write("".join(f"{line}\n" for line in lines))
        file.flush()
        os.chmod(file.name, 0o644)
        subprocess.run(["mount", "--bind", file.name, f"{root}/etc/hosts"], check=True)
