#!/usr/bin/env python3
"""Replays scenarios with our client, and shows where it differs from what the real program did.

    tools/replay.py [FILE|DIR...]             in memory, on a virtual clock; without arguments all of compat/scenarios
    tools/replay.py --live [FILE|DIR...]      our program as a process over real sockets, in the place of the real one
    tools/replay.py --release 3.11 ...        one release; without it all that are recorded

A difference is a ladder (postfixpy.migrate.ladder): what was recorded and what ours did side by side. --live needs root
(tools/record_smtp.py says why); in memory nothing is needed, and the scenarios may lie anywhere. What only processes
can show (``== live`` in a scenario) is left out in memory, and what our processes have no need of (``== without
tlsmgr``: the real ones are then without TLS) with --live. The exit status is 1 when something differs.
"""

import argparse
import multiprocessing
import shutil
import sys
import tempfile
import traceback
from collections.abc import Iterable, Iterator
from pathlib import Path

from postfixpy.migrate import replay_smtp, scenario
from postfixpy.migrate.ladder import ladder

SCENARIOS = Path(__file__).resolve().parent.parent / "compat/scenarios"
Work = tuple[Path, str]


def replay(work: Work) -> str:
    """What our client does as a release."""
    path, release = work
    try:
        with tempfile.TemporaryDirectory() as directory:
            return replay_smtp.replay(scenario.read(path), directory, release)
    except Exception:
        return traceback.format_exc()


def in_memory(work: Iterable[Work]) -> Iterator[str]:
    with multiprocessing.get_context("fork").Pool() as pool:
        yield from pool.imap(replay, work, chunksize=8)


def live(work: Iterable[Work], at_once: int) -> Iterator[str]:
    from recorder import jobs, programs

    folder = programs.own_programs()
    try:
        made = [jobs.Job(path, programs.Installation(release, folder)) for path, release in work]
        for result in jobs.run_all(made, at_once):
            yield result.recorded or result.trouble
    finally:
        shutil.rmtree(folder)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("files", nargs="*", default=[str(SCENARIOS)])
    parser.add_argument("--release", action="append", help="a release of Postfix, like 3.11")
    parser.add_argument("--live", action="store_true", help="our program as a process, over real sockets")
    parser.add_argument("-j", type=int, default=4, metavar="N", help="runs at a time with --live (4)")
    options = parser.parse_args()
    found = {path: scenario.read(path) for path in scenario.files(options.files)}
    recorded = {
        (path, release): text
        for path, content in found.items()
        for release, text in content.recorded.items()
        if (not options.release or release in options.release)
        and (content.tlsmgr if options.live else not content.only_live)
    }
    if not recorded:
        raise SystemExit("no recordings there")
    different = 0
    results = live(recorded, options.j) if options.live else in_memory(recorded)
    width = shutil.get_terminal_size((160, 24)).columns
    for ((path, release), expected), ours in zip(recorded.items(), results, strict=True):
        if ours != expected:
            different += 1
            print(f"DIFFERENT {path} {release}")
            print(ladder(expected, ours, f"Postfix {release}", "ours", width=width), flush=True)
    files = len({path for path, _ in recorded})
    print(f"{files} scenarios, {len(recorded)} recordings, {different} different")
    return 1 if different else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (OSError, ValueError) as error:
        sys.exit(f"{Path(__file__).name}: {error}")
