"""A small mail system for tests: a queue directory with fake services that answer, and a log that is kept.

with MailSystem(tmp_path, "soft_bounce = yes") as system:
    system.service("private/bounce", bounce.ANNOUNCEMENT)   # answers status 0
    ... system.run(coroutine) ...
    assert system.requests("private/bounce") == [...]
"""

import asyncio
import os
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from postfixpy import log
from postfixpy.config import load
from postfixpy.ipc.attributes import Pair, encode, parse

Answer = Callable[[list[Pair]], bytes]


def status(code: int) -> Answer:
    """The answer ``status=code`` to any request."""
    return lambda pairs: encode([("status", code)])


class MailSystem:
    """The working directory is its queue directory while it is entered."""

    def __init__(self, directory: Path, settings: str = "", master: str = "") -> None:
        self.directory = directory
        self.config_directory = directory / "etc"
        self.config_directory.mkdir(exist_ok=True)
        queues = ["incoming", "active", "deferred", "hold", "maildrop", "corrupt", "defer", "bounce", "trace"]
        for name in ["private", "public", "pid", *queues]:
            (directory / name).mkdir(exist_ok=True)
        level = "" if "compatibility_level" in settings else "compatibility_level = 3.6\n"
        text = f"{level}queue_directory = {directory}\nmyhostname = host.example.com\n{settings}\n"
        (self.config_directory / "main.cf").write_text(text)
        (self.config_directory / "master.cf").write_text(master)
        self.log: list[str] = []
        self.seen: list[tuple[str, list[Pair]]] = []
        self._services: list[tuple[str, bytes, Answer]] = []

    def __enter__(self) -> "MailSystem":
        self._before = os.getcwd()
        os.chdir(self.directory)

        def keep(severity: str, text: str) -> None:
            self.log.append(text if severity == "info" else f"{severity}: {text}")

        self._sink = log.set_sink(keep)
        return self

    def __exit__(self, *exc: object) -> None:
        log.set_sink(self._sink)
        os.chdir(self._before)

    def view(self, **options: Any) -> Any:
        """The configuration as a service sees it."""
        return load(str(self.config_directory)).view(**options)

    def service(self, path: str, announcement: bytes, answer: Answer | None = None) -> None:
        """Let a service listen at `path`; it answers status 0, or what `answer` says (b"": it hangs up)."""
        self._services.append((path, announcement, answer or status(0)))

    def requests(self, path: str) -> list[dict[str, str]]:
        """What was asked at `path`, each as a dictionary."""
        return [dict(pairs) for where, pairs in self.seen if where == path]

    def run(self, main: Coroutine[Any, Any, Any]) -> Any:
        """Run `main` while the services listen."""

        async def everything() -> Any:
            servers = [
                await asyncio.start_unix_server(self._serve(path, hello, answer), path)
                for path, hello, answer in self._services
            ]
            try:
                return await main
            finally:
                for server in servers:
                    server.close()
                # Connections that were closed are still served to their end.
                while others := asyncio.all_tasks() - {asyncio.current_task()}:
                    await asyncio.wait(others)

        return asyncio.run(everything())

    def _serve(self, path: str, announcement: bytes, answer: Answer) -> Callable[..., Coroutine[Any, Any, None]]:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(announcement)
            buffer = b""
            while data := await reader.read(65536):
                buffer += data
                while (parsed := parse(buffer)) is not None:
                    pairs, end = parsed
                    buffer = buffer[end:]
                    self.seen.append((path, pairs))
                    reply = answer(pairs)
                    if not reply:
                        break
                    writer.write(reply)
                else:
                    continue
                break
            writer.close()
            await writer.wait_closed()

        return serve
