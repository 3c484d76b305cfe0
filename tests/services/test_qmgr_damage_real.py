"""Damaged queue files: our queue manager says of each what the real one says, and sets aside the same ones."""

import os
import re
import shutil
import socket
import time
from pathlib import Path

import pytest

from postfixpy.mail.records import Sizes, encode_pointer, encode_record, encode_sizes

from .queue_manager.real_system import DAEMONS, RealSystem

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(not (DAEMONS / "qmgr").exists(), reason="no real Postfix"),
    pytest.mark.skipif(shutil.which("postfix") is None, reason="no real Postfix"),
    pytest.mark.timeout(300),
]

Records = list[tuple[str, bytes]]
NOW = int(time.time()) - 1000
SENDER, RECIPIENT, MESSAGE = 4, 8, 10
ENVELOPE: Records = [
    ("T", b"%d 5" % NOW),
    ("A", b"log_ident=ABC123"),
    ("A", b"rewrite_context=local"),
    ("A", b"create_time=%d" % NOW),
    ("S", b"s@a.example"),
    ("A", b"encoding=7bit"),
    ("A", b"dsn_orig_rcpt=rfc822;r1@b.example"),
    ("O", b"r1@b.example"),
    ("R", b"r1@b.example"),
    ("R", b"r2@b.example"),
    ("M", b""),
]
CONTENT: Records = [("N", b"Subject: x"), ("N", b""), ("L", b"y" * 200), ("N", b"z")]
EXTRACTED: Records = [("X", b""), ("A", b"encoding=8bit"), ("p", b"%15d" % 0), ("E", b"")]


def encode(records: Records) -> bytes:
    return b"".join(encode_record(kind, payload) for kind, payload in records)


def build(envelope: Records = ENVELOPE, extracted: Records = EXTRACTED, sizes: bytes | None = None) -> bytes:
    content = encode(CONTENT)
    offset = len(encode_sizes(Sizes(0, 0, 0, 0, 0, 0))) + len(encode(envelope))
    head = encode_sizes(Sizes(len(content), offset, 2, 0, 200, 0)) if sizes is None else encode_record("C", sizes)
    return head + encode(envelope) + content + encode(extracted)


def files() -> dict[str, bytes]:
    """Name, content."""
    out = {"whole": build(), "empty": b"", "nonsense": b"nonsense", "zeros": bytes(50)}
    whole = build()
    out |= {f"cut at {size}": whole[:size] for size in (1, 60, 97, 150, 230, len(whole) - 2, len(whole) - 1)}
    for place in range(len(ENVELOPE)):
        out[f"without {place}"] = build(ENVELOPE[:place] + ENVELOPE[place + 1 :])
        for kind in "AOLRwN?\0\xe4":
            changed = list(ENVELOPE)
            changed[place] = (kind, changed[place][1])
            out[f"{place} is {kind!r}"] = build(changed)
    odd = [b"", b"=x", b"noequals", b"a b=c", b"x\0=y", b"notify_flags=3", b"ret_flags=9", b"log_ident=again"]
    records = [("A", text) for text in odd]
    records += [("p", text) for text in (b"", b"abc", b"-5", encode_pointer(99999)[2:])]
    records += [("O", b""), ("o", b""), ("n", b"x"), ("V", b"xy"), ("<", b"3"), (">", b""), ("T", b"x"), ("S", b"")]
    for record in records:
        for place in (0, SENDER, RECIPIENT, MESSAGE):
            out[f"{record} at {place}"] = build([*ENVELOPE[:place], record, *ENVELOPE[place:]])
        out[f"{record} behind"] = build(extracted=[EXTRACTED[0], record, *EXTRACTED[1:]])
    numbers = (
        b"0 9 2",
        b"9 0 2",
        b"x",
        b"200 300x 2",
        b"200 300 2 128",
        b"200 300 2 0 -1",
        b"200 900 2 0 7",
        b"-1 -1 2",
    )
    out |= {f"sizes {text!r}": build(sizes=text) for text in numbers}
    return out


def judged(ours: bool) -> dict[str, list[str]]:
    """What became of each file: where it is, what the queue manager said."""
    out = {}
    quiet = {"default_transport": "discard:", "relayhost": "", "minimal_backoff_time": "4000s"}
    with RealSystem(ours=ours, maximal_backoff_time="4000s", **quiet) as system:
        queue = system.queue
        for number, (name, data) in enumerate(files().items()):
            queue_id = f"{number:05X}ABC"
            seen = len(system.log())
            path = queue / "incoming" / f".{queue_id}"
            path.write_bytes(data)
            shutil.chown(path, "postfix")
            path.chmod(0o700)
            os.utime(path, (NOW, NOW))
            path.rename(queue / "incoming" / queue_id)
            with socket.socket(socket.AF_UNIX) as trigger:
                trigger.connect(str(queue / "public/qmgr"))
                trigger.send(b"I")
            system.wait(lambda: not _found(queue, queue_id, "incoming", "active"), f"{name}: the end")  # noqa: B023
            places = _found(queue, queue_id, "deferred", "corrupt")
            ends = "saving corrupt" if places == ["corrupt"] else ": removed"
            if places != ["deferred"]:
                system.wait(lambda: f"{ends}" in str(system.log()[seen:]), f"{name}: its last line")  # noqa: B023
            lines = [line for line in system.log()[seen:] if line.startswith("qmgr: ") and "mail transport" not in line]
            notice = re.compile(r"\b(?!" + queue_id + r")[0-9A-F]{8,}: ")
            out[name] = places + [line.replace(queue_id, "ID") for line in lines if not notice.search(line)]
    return out


def _found(queue: Path, queue_id: str, *names: str) -> list[str]:
    return [name for name in names if any((queue / name).rglob(queue_id))]


def test_damaged_files_as_with_the_real_queue_manager() -> None:
    real, ours = judged(False), judged(True)
    assert {name: ours[name] for name in real if ours[name] != real[name]} == {
        name: said for name, said in real.items() if ours[name] != said
    }
    assert sum(said[0] == "corrupt" for said in real.values()) > 60
