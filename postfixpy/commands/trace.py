"""postfixpy trace: the sessions in a trace file (postfixpy.smtp.trace) as ladders, the client left, the server right.

usage: postfixpy trace [-q queue_id] [-s server] [-w width] file...

    -q queue_id   only sessions for this message
    -s server     only sessions whose server, name[address]:port, contains this text
    -w width      columns of the output (default: 100)

"-" is standard input. Lines that are not records are told about, and passed over; then the exit status is 1.
"""

import datetime
import json
import sys
from collections.abc import Iterable
from typing import Any, TextIO

from postfixpy.errors import FatalError
from postfixpy.log import printable
from postfixpy.options import OptionError, parse

_TIME = 10
"""Columns of the time."""


def ladder(record: dict[str, Any], width: int = 100) -> list[str]:
    """The lines of one session. Raises KeyError, TypeError, ValueError for what is not a record."""
    when = datetime.datetime.fromtimestamp(float(record["time"])).isoformat(" ", "milliseconds")
    use = f" (use {record['use']} of the connection)" if record.get("use", 1) > 1 else ""
    lines = [f"{when}  {record['queue_id']}  {record['program']}  {record['server']}{use}"]
    room = max(width - _TIME - 2, 40)
    for time, kind, text in record["events"]:
        shown = printable(text)
        if kind == ">":
            body = f"{shown} -->"
        elif kind == "<":
            body = f"<-- {shown}".rjust(room)
        elif kind == "data":
            body = f"[content, {shown} bytes] -->"
        else:
            body = f"* {kind} {shown}".rstrip()
        lines.append(f"{time:{_TIME}.3f}  {body}")
    return lines


def show(source: Iterable[str], output: TextIO, *, name: str, queue_id: str, server: str, width: int) -> bool:
    """Write the sessions of a file that are wanted; False when there was something else in it."""
    good = True
    for number, line in enumerate(source, 1):
        try:
            record = json.loads(line)
            lines = ladder(record, width)
        except (KeyError, TypeError, ValueError):
            sys.stderr.write(f"trace: {name}, line {number}: not a session\n")
            good = False
            continue
        if (not queue_id or record["queue_id"] == queue_id) and server in record["server"]:
            output.write("\n".join(lines) + "\n\n")
    return good


def _parsed(argv: list[str]) -> tuple[str, str, int, list[str]]:
    """Queue id, server, width, files. Raises FatalError."""
    usage = "usage: trace [-q queue_id] [-s server] [-w width] file..."
    try:
        found, files = parse(argv[1:], "q:s:w:")
    except OptionError:
        raise FatalError(usage) from None
    values = {"q": "", "s": "", "w": "100", **dict(found)}
    width = values["w"]
    if not files or not (width.isascii() and width.isdigit() and len(width) < 5):
        raise FatalError(usage)
    return values["q"], values["s"], int(width), files


def main(argv: list[str]) -> int:
    """See the module. Raises FatalError."""
    if "--help" in argv[1:]:
        sys.stdout.write(str(__doc__))
        return 0
    queue_id, server, width, files = _parsed(argv)
    good = True
    for name in files:
        try:
            with open(name if name != "-" else 0, encoding="utf-8", errors="surrogateescape") as file:
                good &= show(file, sys.stdout, name=name, queue_id=queue_id, server=server, width=width)
        except OSError as error:
            raise FatalError(f"open {name}: {error.strerror}") from error
    return 0 if good else 1
