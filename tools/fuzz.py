"""The driver of the fuzz targets (tools/fuzz_*.py): mutated inputs until interrupted, or for a number of seconds.

    python tools/fuzz_NAME.py [SECONDS [SEED [TARGET...]]]

A target is a function of bytes that raises when its invariant, which its docstring states, is broken. Every input has
`TIME_LIMIT` seconds of processor time. The run stops with the input that broke something, which is also left in a file.
"""

import itertools
import random
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

TIME_LIMIT = 5.0
"""Seconds of processor time for one input: a busy machine is no fault of it."""
PATIENCE = 120.0
"""And by the clock, for what waits."""
LONGEST = 200_000
TURN = 0.5
"""Seconds that a target has before the next has its turn."""


class TooSlow(Exception):
    """An input took longer than `TIME_LIMIT`."""


@dataclass
class Target:
    """What is fuzzed: `check` raises when a promise is broken. Inputs grow from `seeds`, with `tokens` thrown in."""

    check: Callable[[bytes], None]
    seeds: Sequence[bytes] = (b"",)
    tokens: Sequence[bytes] = ()
    corpus: list[bytes] = field(default_factory=list)

    @property
    def name(self) -> str:
        return self.check.__name__


def mutated(chance: random.Random, data: bytes, tokens: Sequence[bytes]) -> bytes:
    """`data` with a few changes: bits, bytes, numbers, tokens, pieces moved, copied, cut."""
    out = bytearray(data)
    for _ in range(chance.choice((1, 1, 1, 2, 3, 6))):
        position = chance.randrange(len(out) + 1)
        match chance.randrange(8):
            case 0 if tokens:
                out[position:position] = chance.choice(tokens)
            case 1:
                del out[position : position + chance.choice((1, 1, 2, 4, 20, 300))]
            case 2:
                out[position:position] = bytes(chance.randrange(256) for _ in range(chance.randrange(1, 5)))
            case 3 if position < len(out):
                out[position] ^= 1 << chance.randrange(8)
            case 4 if position < len(out):
                out[position] = chance.choice((0, 1, 127, 128, 255))
            case 5:
                number = chance.choice(
                    (0, 1, 2, 255, 65535, 1 << 31, (1 << 32) - 1, len(out), chance.randrange(1 << 32))
                )
                size = chance.choice((2, 4))
                out[position : position + size] = (number % (1 << 8 * size)).to_bytes(size, "little")
            case 6:
                other = chance.randrange(len(out) + 1)
                piece = out[other : other + chance.choice((2, 8, 60, 1000))]
                out[position : position + (len(piece) if chance.random() < 0.5 else 0)] = piece
            case _:
                del out[chance.randrange(len(out) + 1) :]
                if chance.random() < 0.8:
                    out += data[len(out) :]
    return bytes(out[:LONGEST])


def _late(number: int, frame: object) -> None:
    raise TooSlow(f"longer than {TIME_LIMIT} s, or {PATIENCE} s by the clock")


def main(targets: Sequence[Target]) -> int:
    """Fuzz each target in turn; the exit status."""
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else float("inf")
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else random.randrange(1 << 30)
    chosen = [target for target in targets if not sys.argv[3:] or target.name in sys.argv[3:]]
    chance = random.Random(seed)
    signal.signal(signal.SIGPROF, _late)
    signal.signal(signal.SIGALRM, _late)
    counts = dict.fromkeys((target.name for target in chosen), 0)
    slowest = dict.fromkeys(counts, 0.0)
    end = time.monotonic() + seconds
    for target in itertools.cycle(chosen):
        if time.monotonic() > end:
            break
        target.corpus = target.corpus or list(target.seeds)
        turn_ends = time.monotonic() + TURN
        first = [] if counts[target.name] else list(target.seeds)
        while first or time.monotonic() < turn_ends:
            data = first.pop() if first else mutated(chance, chance.choice(target.corpus), target.tokens)
            start = time.monotonic()
            signal.setitimer(signal.ITIMER_PROF, TIME_LIMIT)
            signal.setitimer(signal.ITIMER_REAL, PATIENCE)
            try:
                target.check(data)
            except BaseException:
                with tempfile.NamedTemporaryFile(prefix=f"{target.name}.", delete=False) as file:
                    file.write(data)
                where = f"{target.name}, seed {seed}, input {counts[target.name]}, in {file.name}"
                sys.stderr.write(f"{where}:\n{data[:2000]!r}\n")
                raise
            finally:
                signal.setitimer(signal.ITIMER_PROF, 0)
                signal.setitimer(signal.ITIMER_REAL, 0)
            slowest[target.name] = max(slowest[target.name], time.monotonic() - start)
            counts[target.name] += 1
            if len(target.corpus) < 500 and chance.random() < 0.02:
                target.corpus.append(data)
    for name, count in counts.items():
        sys.stdout.write(f"{name}: {count} inputs, seed {seed}, slowest {1000 * slowest[name]:.0f} ms: nothing found\n")
    return 0
