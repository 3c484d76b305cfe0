#!/usr/bin/env python3
"""Records what the real smtp(8) or lmtp(8) does in scenarios.

    tools/record_smtp.py FILE|DIR...            run the real programs, compare with what is stored
    tools/record_smtp.py --write FILE|DIR...    store what the real programs did in the files
    tools/record_smtp.py --release 3.11 ...     one release; without it each installed one whose recordings are kept
    tools/record_smtp.py --show FILE|DIR...     also print it

The program runs alone, with this tool in the place of master, the queue manager, the bounce, defer, trace, rewrite and
cleanup services, the log, the remote servers and the name server: each run in a network and mount namespace of its
own, so that every address of 127.0.0.0/8 and port 25 are free and /etc/resolv.conf is ours. Needs root for that. The
machine's own release is that of its package; the others are those of tools/real_root.py. Several runs go on at once
(-j), because most of their time is waiting. What ours does: tools/replay.py.
"""

import argparse
import shutil
import sys
from pathlib import Path

from recorder import jobs, programs

from postfixpy.migrate import scenario
from postfixpy.migrate.ladder import ladder


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("files", nargs="+")
    parser.add_argument("--release", action="append", help="a release of Postfix, like 3.11")
    parser.add_argument("--write", action="store_true", help="store the recordings in the files")
    parser.add_argument("--show", action="store_true", help="print what was recorded")
    parser.add_argument("-j", type=int, default=8, metavar="N", help="runs at a time (8)")
    options = parser.parse_args()
    work = [
        jobs.Job(path, programs.real(release))
        for path in scenario.files(options.files)
        for release in options.release or programs.installed()
        if scenario.read(path).wants(release)
    ]
    failed = changed = 0
    for result in jobs.run_all(work, options.j):
        path, release = result.job.path, result.job.installation.release
        if result.trouble:
            failed += 1
            print(f"FAILED {path} {release}\n{result.trouble}", flush=True)
            continue
        if options.show:
            print(result.recorded)
        text = scenario.read_text(path)
        stored = scenario.parse(text).recorded.get(release, "")
        if stored == result.recorded:
            continue
        changed += 1
        if options.write:
            scenario.write_text(path, scenario.with_recording(text, release, result.recorded))
        width = shutil.get_terminal_size((160, 24)).columns
        print(f"{'NEW' if not stored else 'CHANGED'} {path} {release}")
        if stored:
            print(ladder(stored, result.recorded, f"stored of Postfix {release}", "now", width=width), flush=True)
    print(f"{len(work)} runs, {changed} differ from what was stored, {failed} failed")
    return 1 if failed or (changed and not options.write) else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (OSError, ValueError) as error:
        sys.exit(f"{Path(__file__).name}: {error}")
