#!/usr/bin/env python3
"""Fuzzes the TLS engine with what a server might send.

    tools/fuzz_tls.py [--seconds N] [--seed N]

The invariant: whatever bytes come, at whatever point of a handshake or behind it, in whatever pieces, the engine ends
with `TLSState`, `HandshakeError` or `LibraryError`; the process lives, no other exception comes out, memory does not
grow: thousands of handshakes, most of them broken, leave the resident size where it was.

Bytes are random, or those of a real server with some of them changed, cut, repeated or put in another order.
"""

import argparse
import random
import resource
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from postfixpy import config, log
from postfixpy.tls.client import ClientHandshake
from postfixpy.tls.context import ClientContext, client_context
from postfixpy.tls.handshake import HandshakeError, LibraryError, TLSRequest
from postfixpy.tls.level import Level
from postfixpy.tls.scripted import ScriptedTLS

CERTIFICATES = Path(__file__).resolve().parent.parent / "compat/certificates"
STEPS = (
    "good",
    "ecdsa",
    "good protocols=TLSv1.2",
    "chained",
    "anonymous",
    "good verify=root",
    "deep protocols=TLSv1.2",
)


def make_context() -> ClientContext:
    with tempfile.TemporaryDirectory() as directory:
        text = f"compatibility_level = 3.6\nsmtp_tls_CAfile = {CERTIFICATES}/root-ca.pem\n"
        Path(directory, "main.cf").write_text(text)
        found = client_context(config.load(directory, profile="upstream").view(process_name="smtp"))
    assert found is not None
    return found


def mangle(data: bytes, rng: random.Random) -> bytes:
    """`data`, changed in one of the ways that a broken or hostile server has."""
    out = bytearray(data)
    kind = rng.randrange(7)
    if kind == 0:
        return rng.randbytes(rng.randrange(1, 400))
    if kind == 1 and out:
        for _ in range(rng.randrange(1, 6)):
            out[rng.randrange(len(out))] = rng.randrange(256)
    elif kind == 2:
        del out[rng.randrange(len(out) + 1) :]
    elif kind == 3:
        position = rng.randrange(len(out) + 1)
        out[position:position] = rng.randbytes(rng.randrange(1, 40))
    elif kind == 4:
        out += out[: rng.randrange(len(out) + 1)]
    elif kind == 5:
        position = rng.randrange(len(out) + 1)
        out = out[position:] + out[:position]
    else:
        out = bytearray(b"\x16\x03\x03" + rng.randrange(65536).to_bytes(2, "big") + bytes(out[5:]))
    return bytes(out)


def once(context: ClientContext, rng: random.Random, bits: int) -> str:
    """One connection. Returns how it ended."""
    server = ScriptedTLS(rng.choice(STEPS), str(CERTIFICATES))
    level = rng.choice((Level.MAY, Level.SECURE))
    names = ("mx.server.example",) if level == Level.SECURE else ()
    shake = ClientHandshake(TLSRequest(context, "server[127.0.0.1]:25", level, names=names, session_id="x", log=bits))
    channel = shake.channel
    broken = rng.randrange(4)  # which flight of the server is broken; 3: what comes behind the handshake
    try:
        for turn in range(10):
            if shake.step() is not None:
                break
            server.feed(channel.output())
            answer = server.output()
            if turn == broken:
                answer = mangle(answer, rng)
            if not answer:
                channel.end()
            while answer:
                size = rng.choice((1, 5, 100, 100_000))
                channel.feed(answer[:size])
                answer = answer[size:]
                if answer and shake.step() is not None:
                    break
            else:
                continue
            break
        else:
            return "no end"
        server.feed(channel.output())
        server.write(b"250 ok\r\n")
        channel.feed(mangle(server.output(), rng) if broken == 3 else server.output())
        for _ in range(5):
            channel.read()
        channel.write(rng.randbytes(rng.randrange(3000)))
        return "talked"
    except HandshakeError:
        return "handshake error"
    except LibraryError:
        return "broken later"
    finally:
        channel.shut()
        channel.output()
        channel.free()


def resident() -> int:
    """Resident size in kilobytes."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize() // 1024


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    log.set_sink(lambda severity, text: None)
    rng = random.Random(options.seed)
    context = make_context()
    ends: Counter[str] = Counter()
    end = time.monotonic() + options.seconds
    start_size = 0
    count = 0
    while time.monotonic() < end:
        ends[once(context, rng, 0xFFFF if count % 50 == 0 else 0)] += 1
        count += 1
        if count == 1000:
            start_size = resident()
    grown = resident() - start_size if start_size else 0
    print(
        f"{count} connections, seed {options.seed}: {dict(ends)}; resident size grew by {grown} KB after the first 1000"
    )
    return 1 if grown > 4000 else 0


if __name__ == "__main__":
    sys.exit(main())
