"""A service for tests of the runner and of master: one small class, run as a program of its own.

The client's first attribute list says what to do: ("do", "echo") sends the list back with our process id, "hold" waits
for the peer to hang up before it answers nothing, "fatal", "bug" and "crash" do what they say. Triggers and datagrams
are written to the file of the word ``file=PATH``.
"""

import asyncio
import os
import sys

from postfixpy.errors import FatalError
from postfixpy.ipc.channel import Channel
from postfixpy.ipc.service import Context, Service


class Echo(Service):
    protocol = "echo_protocol"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.options = dict(word.split("=", 1) for word in context.words)

    async def start(self) -> None:
        if "fail" in self.options:
            raise FatalError(self.options["fail"])

    def tables_changed(self) -> str | None:
        path = self.options.get("table")
        return "hash:/x(0,lock|fold_fix)" if path and os.path.exists(path) else None

    async def serve(self, channel: Channel) -> None:
        while await channel.wait_readable():
            pairs = dict(await channel.read_list())
            match pairs.get("do"):
                case "hold":
                    channel.send(("held", os.getpid()))
                    await channel.read_list()
                case "jail":
                    channel.send(*self.whereabouts())
                    continue
                case "fatal":
                    raise FatalError("told to")
                case "bug":
                    raise KeyError("told to")
                case "crash":
                    os._exit(3)
            sessions = self.context.sessions
            channel.send(*pairs.items(), ("pid", os.getpid()), ("sessions", sessions), *channel.attributes.items())

    def whereabouts(self) -> list[tuple[str, str]]:
        """Who and where we are, and that what Python loads late still works there."""
        import time

        return [
            ("uid", str(os.getuid())),
            ("groups", str(os.getgroups())),
            ("root", " ".join(sorted(os.listdir("/")))),
            ("idna", "b\u00fccher.example".encode("idna").decode()),
            ("conditional", self.view.expand("${queue_directory?{set}:{unset}}")),
            ("family", str(self.view.service_integer("echo", "destination_concurrency_limit"))),
            ("zone", time.tzname[0]),
        ]

    async def triggered(self, requests: bytes) -> None:
        self.note(requests)

    def datagram(self, data: bytes) -> None:
        self.note(data)

    def note(self, data: bytes) -> None:
        with open(self.options["file"], "ab") as file:
            file.write(data + b"\n")

    async def stop(self) -> None:
        if "stopped" in self.options:
            with open(self.options["stopped"], "w"):
                pass


class Trigger(Echo):
    triggers = True


class Datagrams(Echo):
    datagrams = True


class Solitary(Echo):
    single = True


class Unlimited(Echo):
    unlimited = True


class Stubborn(Echo):
    """A background task of it ignores that it is cancelled."""

    async def start(self) -> None:
        from postfixpy.ipc import process

        process.STOP_TIME = 0.2

    async def stop(self) -> None:
        while True:
            try:
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                pass


KINDS = {
    "stubborn": Stubborn,
    "echo": Echo,
    "trigger": Trigger,
    "datagrams": Datagrams,
    "solitary": Solitary,
    "unlimited": Unlimited,
}


def main() -> int:
    from postfixpy.ipc.runner import run

    name = os.path.basename(sys.argv[0])
    return run([name, *sys.argv[1:]], KINDS[name])
