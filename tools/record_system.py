#!/usr/bin/env python3
"""Records what whole mail systems do: submissions in; log lines, notifications and deliveries out (recorder.systems).

    tools/record_system.py [FILE|DIR...]            run the real systems, compare with what is stored
    tools/record_system.py --write [FILE|DIR...]    store what they did
    tools/record_system.py --ours [FILE|DIR...]     run our system in the place of the real one, compare
    tools/record_system.py --release 3.11 ...       one release

Without files, all of compat/systems. Each run is in a world of its own (tools/real_postfix.py). Needs root.
"""

import argparse
import shutil
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from recorder import programs, systems

from postfixpy.migrate import scenario
from postfixpy.migrate.ladder import ladder

SYSTEMS = Path(__file__).resolve().parent.parent / "compat/systems"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("files", nargs="*", default=[str(SYSTEMS)])
    parser.add_argument("--release", action="append", help="a release of Postfix, like 3.11")
    parser.add_argument("--write", action="store_true", help="store the recordings in the files")
    parser.add_argument("--ours", action="store_true", help="our system instead of the real one")
    parser.add_argument("-j", type=int, default=3, metavar="N", help="runs at a time (3)")
    options = parser.parse_args()
    work = [
        (path.resolve(), release)
        for path in scenario.files(options.files)
        for release in options.release or programs.installed()
        if scenario.read(path).wants(release)
    ]

    def run(job: tuple[Path, str]) -> str | Exception:
        try:
            return systems.record(*job, ours=options.ours)
        except Exception as error:
            return error

    different = 0
    with ThreadPoolExecutor(options.j) as pool:
        for (path, release), result in zip(work, pool.map(run, work), strict=True):
            if isinstance(result, Exception):
                different += 1
                print(f"FAILED {path} {release}\n{result}", flush=True)
                continue
            text = scenario.read_text(path)
            stored = scenario.parse(text).recorded.get(release, "")
            if options.write and not options.ours:
                scenario.write_text(path, scenario.with_recording(text, release, result))
            if stored != result:
                different += 1
                width = shutil.get_terminal_size((160, 24)).columns
                now = "ours" if options.ours else "now"
                print(f"DIFFERENT {path} {release}")
                print(ladder(stored, result, f"Postfix {release}", now, width=width) if stored else "new", flush=True)
    print(f"{len(work)} runs, {different} different")
    return 1 if different and not options.write else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (OSError, ValueError) as error:
        sys.exit(f"{Path(__file__).name}: {error}")
