#!/usr/bin/env python3
"""A fuzz target for the whole client: conversations with servers that say anything, split anywhere, hang up or stall.

    python tools/fuzz_session.py [SECONDS [SEED]]

The invariant (`tests.smtp.wild.check`): each recipient has exactly one result, whose status code is of its class; none
is "sent" without a 2xx reply to the final dot (LMTP: to that recipient's own), or for a probe to its RCPT or DATA; the
request's status is 0 only when nobody is deferred; and the client comes to an end. A step is one write to a server or
one read from it.
"""

import random
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from postfixpy import log
from tests.smtp import wild


def main() -> int:
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else float("inf")
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else random.randrange(1 << 30)
    log.set_sink(lambda severity, text: None)
    clients = wild.clients()
    rounds = steps = 0
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            steps += wild.check(clients, wild.Chance(random.Random(f"{seed} {rounds}")))
        except BaseException:
            sys.stderr.write(f"seed {seed}, round {rounds}\n")
            raise
        rounds += 1
    sys.stdout.write(f"sessions: {rounds} rounds, {steps} steps, seed {seed}: nothing found\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
