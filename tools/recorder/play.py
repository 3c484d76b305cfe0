#!/usr/bin/env python3
"""Plays the scripted servers of a scenario, in the network where it runs: until its input ends; prints what they got.

play.py FILE     for recorder.systems, which runs it inside a namespace
"""

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from postfixpy.migrate import scenario
from recorder.servers import ScriptedServer


def main() -> None:
    found = scenario.read(Path(sys.argv[1]))
    servers = [ScriptedServer(server, "/var/spool/postfix") for server in found.servers]
    for server in servers:
        server.start()
    print("ready", flush=True)
    sys.stdin.read()
    print(json.dumps([(name, [c.decode("latin-1") for c in chunks]) for s in servers for name, chunks in s.chunks]))


if __name__ == "__main__":
    main()
