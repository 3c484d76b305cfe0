"""A fuzz target for the MIME machine: mutated messages until interrupted, or for a number of seconds.

    python tools/fuzz_mime.py [SECONDS [SEED [FILE...]]]

FILEs are messages to start from. It stops with the message that broke a promise: no exception; events in order; one end
of headers; without conversion the text that went in comes out; `plain` text passes unseen; time is linear. With atheris
installed, ``python tools/fuzz_mime.py --atheris [libFuzzer options]`` lets coverage choose the mutations.
"""

import importlib
import random
import sys
import time
from pathlib import Path
from typing import Any

from postfixpy.mail.mime import BodyEvent, EndOfBody, EndOfHeaders, ErrorEvent, HeaderEvent, MimeMachine

SEEDS = [
    b"Subject: x\n\nbody\n",
    b"Content-Type: multipart/mixed; boundary=a\n\n--a\nContent-Type: message/rfc822\n\nX: y\n\nz\n--a--\n",
    b'Content-Type: multipart/digest; boundary="b c"; boundary=d\nContent-Transfer-Encoding: 8bit\n\n--d\n\nA: b\n\xe9',
    b'Content-Type: (comment (nested)) text / plain ; name="a\\"b"\nContent-Transfer-Encoding: binary\n\n=\t \n',
]
TOKENS = [
    b"--a", b"--a--", b"\n", b"\n\n", b"\r\n", b":", b";", b'"', b"\\", b"(", b")", b" ", b"\t", b"\0", b"\xff", b"=",
    b"boundary=", b"Content-Type: ", b"Content-Transfer-Encoding: ", b"multipart/mixed", b"message/rfc822", b"8bit",
]  # fmt: skip


def records(data: bytes) -> list[tuple[str, bytes]]:
    """`data` as text records of at most 100 bytes."""
    out = []
    *lines, last = data.split(b"\n")
    for line in lines:
        while len(line) >= 100:
            out.append(("L", line[:100]))
            line = line[100:]
        out.append(("N", line))
    return [*out, ("L", last)] if last else out


def check(data: bytes, options: int) -> None:
    """Raises AssertionError, or whatever the machine does."""
    machine = MimeMachine(options, header_limit=1000, boundary_limit=70, nesting_limit=5)
    events = []
    for kind, text in records(data):
        if machine.plain(text):
            passed = list(machine.feed(kind, text))
            assert [event.text for event in passed if isinstance(event, BodyEvent)] == [text]
            assert len(passed) == 1
            events += passed
        else:
            events += machine.feed(kind, text)
    events += machine.finish()
    assert sum(isinstance(event, EndOfHeaders) for event in events) == 1
    assert [index for index, event in enumerate(events) if isinstance(event, EndOfBody)] == [len(events) - 1]
    problems = [event.problem for event in events if isinstance(event, ErrorEvent)]
    assert len(problems) == len(set(problems))
    body = b"".join(event.text for event in events if isinstance(event, BodyEvent | HeaderEvent))
    if not options & 64 and len(data) < 900 and b"\0" not in data:
        wanted = data.translate(None, b"\n \t")
        assert body.translate(None, b"\n \t") == wanted


def mutate(chance: random.Random, data: bytes) -> bytes:
    """Another message."""
    out = bytearray(data)
    for _ in range(chance.randrange(1, 6)):
        position = chance.randrange(len(out) + 1)
        action = chance.randrange(4)
        if action == 0:
            out[position:position] = chance.choice(TOKENS)
        elif action == 1:
            del out[position : position + chance.randrange(20)]
        elif action == 2:
            out[position:position] = bytes(chance.randrange(256) for _ in range(chance.randrange(4)))
        else:
            other = chance.randrange(len(out) + 1)
            out[position:position] = out[other : other + chance.randrange(60)]
    return bytes(out[:5000])


def main() -> int:
    if sys.argv[1:2] == ["--atheris"]:
        atheris: Any = importlib.import_module("atheris")  # not one of our dependencies
        atheris.Setup([sys.argv[0], *sys.argv[2:]], lambda data: check(data[1:], data[0] if data else 0))
        atheris.Fuzz()
        return 0
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else float("inf")
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else random.randrange(1 << 30)
    chance = random.Random(seed)
    corpus = SEEDS + [Path(name).read_bytes() for name in sys.argv[3:]]
    end = time.monotonic() + seconds
    count = 0
    while time.monotonic() < end:
        data = mutate(chance, chance.choice(corpus))
        options = chance.randrange(256)
        try:
            check(data, options)
        except Exception:
            sys.stderr.write(f"seed {seed}, message {count}, options {options}:\n{data!r}\n")
            raise
        if len(corpus) < 500 and chance.random() < 0.05:
            corpus.append(data)
        count += 1
    sys.stdout.write(f"{count} messages, seed {seed}: nothing found\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
