"""The mail system's services and the log, on sockets in the queue directory."""

import base64
import os
import re
import socket
import threading
import time
from collections.abc import Callable

from postfixpy.ipc import delivery as wire
from postfixpy.ipc import flush, verify
from postfixpy.mail.delivery import Recipient
from postfixpy.mail.dsn import DSN
from postfixpy.mail.records import RecordParser
from postfixpy.migrate import replay_smtp, scenario

from .stream import Stream

FIXED = 1 << 4
"""A flag of tables: keys are fixed strings."""
MUTE = {
    "private/mute-bounce": "delivery_status_protocol",
    "private/mute-deliver": wire.PROTOCOL,
    "private/mute-scache": "connection_cache_protocol",
    "private/mute-verify": verify.PROTOCOL,
    "public/mute-flush": flush.PROTOCOL,
}
"""Services that say which protocol they speak, and nothing else."""
_END = b"the program has ended"


class Services:
    """What the program under test finds in private/ and public/. It remembers what it was told.

    `told` are the reports to services, `lines` the log, `notices` what was submitted to cleanup. `rewritten` are the
    requests to rewrite an address, each once: how long answers are remembered is not compared.
    """

    def __init__(self, directory: str, *, tlsmgr: bool = True, sessions: bool = False) -> None:
        """`tlsmgr`: whether there is a TLS session manager; without it the real programs do without TLS. `sessions`:
        whether it keeps sessions."""
        self.directory = directory
        self.told: list[str] = []
        self.lines: list[str] = []
        self.notices: list[str] = []
        self._endpoints: dict[str, tuple[float, str, int]] = {}
        self._destinations: dict[str, tuple[float, str, str]] = {}
        for name in ("bounce", "defer", "trace"):
            self._listen(f"private/{name}", self._report)
        self.rewritten: dict[str, None] = {}
        self._listen("private/rewrite", self._rewrite)
        self._listen("private/verify", self._verify)
        self._listen("public/flush", self._flush)
        self._listen("private/other", self._agent)
        for path in ("private/deaf", "public/deaf"):
            self._listen(path, self._say_nothing)
        for name, protocol in MUTE.items():
            self._listen(name, lambda stream, _, protocol=protocol: self._say_nothing(stream, protocol))
        self._listen("private/scache", self._cache)
        self._proxied: dict[str, str] = {}
        self._listen("private/proxywrite", self._proxywrite)
        self._listen("public/cleanup", self._cleanup)
        self._sessions: dict[str, str] = {}
        self._cachable = int(sessions)
        if tlsmgr:
            self._listen("private/tlsmgr", self._tlsmgr)
        self._reports = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._reports.bind(os.path.join(directory, "private/tlsrpt"))
        self._reports.setblocking(False)
        self._log = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._log.bind(os.path.join(directory, "public/postlog"))
        self._logger = threading.Thread(target=self._read_log, daemon=True)
        self._logger.start()

    def reports(self) -> list[str]:
        """The TLSRPT datagrams."""
        out = []
        while True:
            try:
                out.append(replay_smtp.show_report(self._reports.recv(65536)))
            except BlockingIOError:
                return out

    def close(self) -> None:
        """Wait until every log record that was sent is in `lines`."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            sock.sendto(_END, os.path.join(self.directory, "public/postlog"))
        self._logger.join()

    def _listen(self, path: str, serve: Callable[[Stream, str], None]) -> None:
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(os.path.join(self.directory, path))
        listener.listen(10)

        def accept() -> None:
            while True:
                connection, _ = listener.accept()
                threading.Thread(target=serve, args=(Stream(connection), path.partition("/")[2]), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()

    def _read_log(self) -> None:
        while (record := self._log.recv(65536)) != _END:
            text = record.decode("utf-8", "surrogateescape")
            text = re.sub(r"^.*?\[\d+\]: ", "", text.rstrip("\n"), count=1)
            if "tlsmgr" in text or "no entropy for TLS" in text:
                continue  # ours needs no tlsmgr to have entropy
            shown = scenario.normal_log(text)
            if shown is not None:
                self.lines.append(f"log {shown}")

    def _report(self, stream: Stream, name: str) -> None:
        stream.send(("protocol", "delivery_status_protocol"))
        v = dict(stream.read() or [])
        dsn = DSN(v["status"], v["action"], v["reason"], v["diag_type"], v["diag_text"], v["mta_type"], v["mta_mname"])
        recipient = Recipient(
            v["recipient"], v["original_recipient"], int(v["offset"]), v["dsn_orig_rcpt"], int(v["notify_flags"])
        )
        line = replay_smtp.show_append(name, int(v["flags"]), recipient, dsn)
        self.told.append(line.replace(" offset=", " @offset=", 1))
        stream.send(("status", 0))

    def _agent(self, stream: Stream, name: str) -> None:
        """Another delivery transport, for best_mx_transport."""
        stream.sock.sendall(wire.ANNOUNCEMENT)
        head = dict(stream.read() or [])
        recipient = dict(stream.read() or [])
        self.told.append(f"pass {name} {head['nexthop']} {recipient['recipient']}")
        stream.sock.sendall(wire.Result.of(None, 0).encode())
        stream.sock.close()

    def _say_nothing(self, stream: Stream, name: str) -> None:
        if name != "deaf":
            stream.send(("protocol", name))
        while stream.bytes():
            pass

    def _rewrite(self, stream: Stream, name: str) -> None:
        stream.send(("protocol", "trivial_rewrite_protocol"))
        while (pairs := stream.read()) is not None:
            values = dict(pairs)
            address = values["address"]
            self.rewritten[replay_smtp.show_told("rewrite", values["rule"], address)] = None
            if "@" not in address:
                address += "@client.example"
            stream.send(("flags", 0), ("address", address))

    def _verify(self, stream: Stream, name: str) -> None:
        stream.send(("protocol", verify.PROTOCOL))
        while (pairs := stream.read()) is not None:
            self.told.append(replay_smtp.show_told(name, *(value for _, value in pairs)))
            stream.send(("status", verify.OK))

    def _flush(self, stream: Stream, name: str) -> None:
        stream.send(("protocol", flush.PROTOCOL))
        if pairs := stream.read():
            self.told.append(replay_smtp.show_told(name, *(value for _, value in pairs)))
            stream.send(("status", flush.OK))
        stream.sock.close()

    def _cleanup(self, stream: Stream, name: str) -> None:
        stream.send(("protocol", "cleanup_protocol"), ("queue_id", "NOTICE"))
        self.notices += replay_smtp.show_notice([f"flags={dict(stream.read() or [])['flags']}"])
        parser = RecordParser("notice")
        while data := stream.bytes():
            parser.feed(data)
            for kind, payload in parser:
                text = payload.decode("utf-8", "surrogateescape")
                if kind == "N" and not text.startswith(("Received: ", "\tid ", "Date: ")):
                    self.notices += replay_smtp.show_notice([text])
                if kind == "E":
                    stream.send(("status", 0), ("reason", ""))
                    stream.sock.close()
                    return

    def _tlsmgr(self, stream: Stream, name: str) -> None:
        """tlsmgr(8): seeds, and a session cache without its time limits."""
        stream.send(("protocol", "tlsmgr_protocol"))
        while (pairs := stream.read()) is not None:
            v = dict(pairs)
            key = f"{v.get('cache_type')} {v.get('cache_id')}"
            match v["request"]:
                case "seed":
                    seed = base64.b64encode(os.urandom(int(v["size"]))).decode()
                    stream.send(("status", 0), ("seed", seed))
                case "policy":
                    stream.send(("status", 0), ("cachable", self._cachable), ("timeout", 3600))
                case "lookup":
                    stream.send(
                        ("status", 0 if key in self._sessions else -1), ("session", self._sessions.get(key, ""))
                    )
                case "update":
                    self._sessions[key] = v["session"]
                    stream.send(("status", 0))
                case "delete":
                    self._sessions.pop(key, None)
                    stream.send(("status", 0))

    def _proxywrite(self, stream: Stream, name: str) -> None:
        """proxymap(8) for one table, of any type, that is kept in memory; ``proxy:static:...`` has its one value."""
        ok, no_key = 0, 1
        found: list[tuple[str, str]]
        stream.send(("protocol", "proxymap_protocol"))
        while (pairs := stream.read()) is not None:
            values = dict(pairs)
            asked = int(values.get("instance_flags") or values["flags"])
            flags = [("flags", asked | FIXED)] if "instance_flags" in values or values["request"] == "open" else []
            kind, _, rest = values["table"].partition(":")
            status, found = ok, []
            if values["request"] == "lookup":
                value = rest if kind == "static" else self._proxied.get(values["key"])
                status = no_key if value is None else ok
                found = [("value", value or "")]
            elif values["request"] == "update":
                self._proxied[values["key"]] = values["value"]
            elif values["request"] == "delete":
                status = no_key if self._proxied.pop(values["key"], None) is None else ok
            stream.send(("status", status), *flags, *found)

    # scache(8)

    def _cache(self, stream: Stream, name: str) -> None:
        stream.send(("protocol", "connection_cache_protocol"))
        while (pairs := stream.read()) is not None:
            request, values = pairs[0][1], [value for _, value in pairs[1:]]
            if request == "save_endp":
                stream.send(("dummy", ""))
                _, descriptors, _, _ = socket.recv_fds(stream.sock, 1, 1)
                self._endpoints[values[1]] = (time.monotonic() + int(values[0]), values[2], descriptors[0])
                stream.send(("status", 0))
            elif request == "save_dest":
                self._destinations[values[1]] = (time.monotonic() + int(values[0]), values[2], values[3])
                stream.send(("status", 0))
            else:
                self._find(stream, request, values[0])

    def _find(self, stream: Stream, request: str, label: str) -> None:
        found = []
        if request == "find_dest":
            until, properties, bound = self._destinations.get(label, (0.0, "", ""))
            label = bound if until > time.monotonic() else ""
            found.append(("property", properties))
        until, properties, descriptor = self._endpoints.pop(label, (0.0, "", -1))
        if until <= time.monotonic():
            if descriptor >= 0:
                os.close(descriptor)
            empty = [("property", "")] * (2 if request == "find_dest" else 1)
            stream.send(("status", 2), *empty)
            return
        stream.send(("status", 0), *found, ("property", properties))
        stream.read()
        socket.send_fds(stream.sock, [b"x"], [descriptor])
        os.close(descriptor)
        stream.read()
