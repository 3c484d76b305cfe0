"""Runs the queue commands in this process, on a queue of their own."""

import io
import os
import sys
from typing import NamedTuple

from postfixpy import log
from postfixpy.mail import records
from postfixpy.mail.queue import Queue
from postfixpy.mail.records import Kind, Sizes, encode_record

S = 1_000_000
T = 1_700_000_000


class Result(NamedTuple):
    status: int
    out: str
    err: str


def message(
    sender="sender@example.org", recipients=("a@example.com",), content=(b"Subject: hi", b"", b"hello"), **more
):
    """A complete queue file in the form of cleanup(8). `more`: first=, extracted=: other records, as bytes."""
    envelope = encode_record(Kind.TIME, b"%d 42" % T) + encode_record(Kind.ATTRIBUTE, b"create_time=%d" % T)
    envelope += more.get("first", b"") + encode_record(Kind.FROM, sender.encode())
    for recipient in recipients:
        envelope += encode_record(Kind.ORIGINAL, b"orig-" + recipient.encode())
        envelope += encode_record(Kind.RECIPIENT, recipient.encode())
    envelope += records.encode_pointer(0) + encode_record(Kind.MESSAGE, b"")
    text = b"".join(encode_record(Kind.NORMAL, line) for line in content) + records.encode_pointer(0)
    start = 97 + len(envelope)
    sizes = Sizes(len(text), start, len(recipients), 0, sum(len(line) + 1 for line in content), 0)
    extracted = encode_record(Kind.EXTRACTED, b"") + more.get("extracted", b"") + encode_record(Kind.END, b"")
    return records.encode_sizes(sizes) + envelope + text + extracted


class Site:
    """A queue with a configuration, and `run` for commands."""

    def __init__(self, directory, capfd, monkeypatch, settings=""):
        self.directory, self.capfd, self.monkeypatch = directory, capfd, monkeypatch
        self.configure(settings)
        names = ["incoming", "active", "deferred", "hold", "maildrop", "corrupt", "saved"]
        for name in [*names, "defer", "bounce", "trace", "flush", "private", "public", "pid"]:
            (directory / name).mkdir()
        self.queue = Queue("", "deferred, defer", 1)
        monkeypatch.chdir(directory)
        # The test must stay who it is.
        for name in ("setgid", "initgroups", "setuid"):
            monkeypatch.setattr(f"os.{name}", lambda *arguments: None)
        for name in ("MAIL_CONFIG", "POSTLOG_SERVICE", "POSTLOG_HOSTNAME"):
            monkeypatch.setenv(name, "")

    def configure(self, settings):
        etc = self.directory / "etc"
        etc.mkdir(exist_ok=True)
        (etc / "main.cf").write_text(
            f"compatibility_level = 3.6\nqueue_directory = {self.directory}\n"
            f"myhostname = host.example.com\n{settings}\n"
        )

    def add(self, queue, data=None, *, number=0, mode=0, long=False, **more):
        """Put a message into a queue; returns its id. `number` varies the id."""
        arrival = T * S + 0x12345 + number * 0x10000
        with self.queue.create(queue, now=arrival, long_ids=long) as file:
            file.write(message(**more) if data is None else data)
            file.commit(mode)
            return file.id

    def note(self, queue, queue_id, text):
        """Write a log file."""
        with self.queue.open(queue, queue_id, os.O_RDWR | os.O_CREAT) as file:
            file.write(text)

    def files(self):
        """All files under the queues, as "queue/.../name"."""
        return sorted(
            os.path.relpath(os.path.join(root, name), self.directory)
            for root, _, names in os.walk(self.directory)
            for name in names
            if not root.endswith("/etc")
        )

    def run(self, command, *arguments, stdin=b""):
        """Run a command of ours with this configuration."""
        import importlib

        main = importlib.import_module(f"postfixpy.commands.{command}").main
        self.capfd.readouterr()
        previous = log.set_sink(lambda severity, text: None)
        self.monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        before = os.getcwd()
        umask = os.umask(0o022)
        try:
            status = main([command, "-c", str(self.directory / "etc"), *arguments])
        finally:
            os.umask(umask)
            os.chdir(before)
            log.set_sink(previous)
        out, err = self.capfd.readouterr()
        return Result(status, out, err)
