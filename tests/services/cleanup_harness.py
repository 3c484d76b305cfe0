"""Runs the cleanup service on a queue in a temporary directory, over a socket pair, with a tiny rewriting service."""

import asyncio
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import pytest

from postfixpy import config, log
from postfixpy.ipc.attributes import encode as encode_list
from postfixpy.ipc.attributes import parse
from postfixpy.ipc.channel import Channel
from postfixpy.ipc.cleanup import CleanupResult, Flags
from postfixpy.ipc.rewrite import RewriteClient
from postfixpy.ipc.service import Context
from postfixpy.mail.records import RecordFile, encode_record
from postfixpy.services.cleanup import Cleanup

QUEUES = ["incoming", "hold", "maildrop", "corrupt", "defer", "bounce", "trace", "private", "public"]
TIME = 1_700_000_000
Record = tuple[str, bytes | str]

MAIN = {
    "compatibility_level": "3.11",
    "myhostname": "mail.example.com",
    "myorigin": "example.com",
    "mydestination": "example.com",
    "inet_interfaces": "127.0.0.1",
}


class Rewriter:
    """Adds @example.com in the local context, @remote.example in the other."""

    async def rewrite(self, rule: str, address: str) -> str:
        if address == '""' or "@" in address:
            return address
        return f"{address}@{'example.com' if rule == 'local' else 'remote.example'}"

    async def rewrite_internal(self, rule: str, address: str) -> str:
        return await self.rewrite(rule, address) if address else ""

    def close(self) -> None:
        pass


@dataclass
class Outcome:
    """What came of one submission."""

    queue_id: str
    status: int
    reason: str
    queue: str
    records: list[tuple[str, str]]
    log: list[str]

    @property
    def envelope(self) -> list[str]:
        """The envelope records as kind and text, without the size record and the time of creation."""
        kinds = [kind for kind, _ in self.records]
        return self._shown(self.records[: kinds.index("M")])

    @property
    def extracted(self) -> list[str]:
        kinds = [kind for kind, _ in self.records]
        return self._shown(self.records[kinds.index("X") + 1 :])

    @property
    def content(self) -> list[str]:
        """The content's text; a long line in pieces."""
        kinds = [kind for kind, _ in self.records]
        return [text for _, text in self.records[kinds.index("M") + 1 : kinds.index("X")]]

    @property
    def header(self) -> list[str]:
        """The headers without Received:."""
        lines = self.content[: self.content.index("")] if "" in self.content else self.content
        return [line for line in lines if not line.startswith("Received:")]

    @property
    def sizes(self) -> list[int]:
        return [int(word) for word in self.records[0][1].split()]

    def _shown(self, records: list[tuple[str, str]]) -> list[str]:
        return [kind + text for kind, text in records if kind != "C" and not text.startswith("create_time=")]


def envelope(*recipients: str, sender: str = "me@example.com", extra: list[Record] | None = None) -> list[Record]:
    return [
        ("T", f"{TIME} 0"),
        ("A", "rewrite_context=local"),
        ("S", sender),
        *(extra or []),
        *(("R", recipient) for recipient in recipients),
        ("M", ""),
    ]


def message(*lines: str | bytes, received: bool = True) -> list[Record]:
    head: list[Record] = [("N", "Received: by here")] if received else []
    return [*head, *(("N", line) for line in lines)]


END: list[Record] = [("X", ""), ("E", "")]


def encode(records: list[Record]) -> bytes:
    return b"".join(
        encode_record(kind, payload.encode("utf-8", "surrogateescape") if isinstance(payload, str) else payload)
        for kind, payload in records
    )


class Harness:
    """One running service. `submit` sends a message as a client does."""

    def __init__(self, directory: Path, lines: list[str]) -> None:
        self.directory = directory
        self.lines = lines
        self.read_back = True

    def write_main(self, **parameters: str) -> None:
        text = {**MAIN, "queue_directory": str(self.directory), **parameters}
        (self.directory / "main.cf").write_text("".join(f"{name} = {value}\n" for name, value in text.items()))

    async def start(self, rewriter: RewriteClient | None = None) -> Cleanup:
        view = config.load(str(self.directory)).view()
        service = Cleanup(Context(config=None, view=view, program="cleanup", service="cleanup"))  # type: ignore[arg-type]
        await service.pre_jail()
        await service.start()
        service.rewriter = rewriter or cast("RewriteClient", Rewriter())
        self.service = service
        return service

    async def submit(self, flags: int, records: list[Record] | bytes, *, pieces: int = 0, cut: bool = False) -> Outcome:
        """The outcome of one message. `pieces`: send so many bytes at a time; `cut`: hang up without waiting."""
        data = records if isinstance(records, bytes) else encode(records)
        ours, theirs = socket.socketpair()
        loop = asyncio.get_running_loop()
        _, server = await loop.create_connection(lambda: Channel("cleanup"), sock=theirs)
        _, client = await loop.create_connection(lambda: Channel("public/cleanup"), sock=ours)
        start = len(self.lines)
        serving = asyncio.create_task(self.service.serve(server))
        try:
            (_, queue_id), *_ = await client.read_announcement("cleanup_protocol")
            client.send_message(Flags(flags))
            for position in range(0, len(data), pieces or len(data) or 1):
                client.write(data[position : position + (pieces or len(data))])
                if pieces:
                    await asyncio.sleep(0)
            if cut:
                client.close()
                await serving
                result = CleanupResult(-1, "")
            else:
                result = await client.read(CleanupResult)
                await serving
        finally:
            client.close()
            server.close()
        queue, found = self.read(queue_id)
        lines = [line.replace(queue_id, "ID") for line in self.lines[start:]]
        return Outcome(queue_id, result.status, result.reason.replace(queue_id, "ID"), queue, found, lines)

    def read(self, queue_id: str) -> tuple[str, list[tuple[str, str]]]:
        for queue in ("incoming", "hold") if self.read_back else ():
            path = self.directory / queue / queue_id
            if path.exists():
                assert path.stat().st_mode & 0o777 == 0o700
                with path.open("rb") as file:
                    text = [(r.kind, r.payload.decode("utf-8", "surrogateescape")) for r in RecordFile(file, str(path))]
                return queue, [(kind, value.replace(queue_id, "ID")) for kind, value in text]
        return "", []


@pytest.fixture
def harness(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    for name in QUEUES:
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TZ", "UTC")
    lines: list[str] = []
    previous = log.set_sink(lambda severity, text: lines.append(text if severity == "info" else f"{severity}: {text}"))
    made = Harness(tmp_path, lines)
    made.write_main()
    yield made
    log.set_sink(previous)


async def serve_once(path: str, protocol: str, answer: list[tuple[str, Any]]) -> tuple[asyncio.Server, list[Any]]:
    """A service at `path` that greets with `protocol`, reads a list and answers; and the lists that it was told."""
    told: list[Any] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(encode_list([("protocol", protocol)]))
        buffer = b""
        while (parsed := parse(buffer)) is None:
            buffer += await reader.read(4096)
        told.append(dict(parsed[0]))
        writer.write(encode_list(answer))
        writer.close()
        await writer.wait_closed()

    return await asyncio.start_unix_server(serve, path), told
