#!/usr/bin/env python3
"""Records what the real smtp(8) or lmtp(8) does in a scenario, and compares it with what ours does.

    tools/record_smtp.py FILE|DIR...            run the real programs, compare with our replay, show differences
    tools/record_smtp.py --write FILE|DIR...    also store what the real programs did in the files
    tools/record_smtp.py --ours FILE|DIR...     run our own program over real sockets instead of the real one
    tools/record_smtp.py --release 3.11 ...     one release; without it each installed one whose recordings are kept

The program runs alone, with this tool in the place of master, the queue manager, the bounce, defer, trace, rewrite and
cleanup services, the log, the remote servers and the name server: each run in a network and mount namespace of its
own, so that every address of 127.0.0.0/8 and port 25 are free and /etc/resolv.conf is ours. Needs root for that. The
machine's own release is that of its package; the others are those of tools/real_root.py. Several runs go on at once
(-j), because most of their time is waiting.
"""

import argparse
import difflib
import multiprocessing
import shutil
import sys
import tempfile
import traceback
from pathlib import Path

from recorder import namespace, programs, run

from postfixpy.migrate import replay_smtp, scenario


def job(work: tuple[Path, programs.Installation, bool]) -> tuple[str, str, str]:
    """One run, in a process of its own: what was recorded, our replay ("" if not asked for), and what went wrong."""
    path, installation, compare = work
    try:
        found = scenario.parse(path.read_text(errors="surrogateescape"))
        namespace.enter()
        recorded = run.record(found, installation)
        if not compare:
            return recorded, "", ""
        with tempfile.TemporaryDirectory() as directory:
            return recorded, replay_smtp.replay(found, directory, installation.release), ""
    except Exception:
        return "", "", traceback.format_exc()


def files_of(names: list[str]) -> list[Path]:
    """The files that are named, and the scenarios below the folders that are named."""
    out: list[Path] = []
    for name in names:
        path = Path(name)
        out += sorted(path.rglob("*.txt")) if path.is_dir() else [path]
    return out


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("files", nargs="+")
    parser.add_argument("--release", action="append", help="a release of Postfix, like 3.11")
    parser.add_argument("--write", action="store_true", help="store the recording in the files")
    parser.add_argument("--ours", action="store_true", help="run our program instead, against the stored recording")
    parser.add_argument("--show", action="store_true", help="print what was recorded")
    parser.add_argument("-j", type=int, default=8, metavar="N", help="runs at a time (8)")
    options = parser.parse_args()
    releases = options.release or (list(programs.RECORDED) if options.ours else programs.installed())
    make = programs.ours if options.ours else programs.real
    installations = [make(release) for release in releases]
    jobs = [
        (path, installation, not options.ours)
        for path in files_of(options.files)
        for installation in installations
        if scenario.parse(path.read_text(errors="surrogateescape")).wants(installation.release)
    ]
    different = 0
    with multiprocessing.get_context("fork").Pool(options.j, maxtasksperchild=1) as pool:
        for (path, installation, _), result in zip(jobs, pool.imap(job, jobs, chunksize=1), strict=True):
            different += report(path, installation.release, result, options)
    if options.ours:
        for installation in installations:
            shutil.rmtree(installation.daemons)
    print(f"{len(jobs)} runs, {different} different")
    return 1 if different else 0


def report(path: Path, release: str, result: tuple[str, str, str], options: argparse.Namespace) -> bool:
    """Show and store the result of one run. True when the real program and ours differ."""
    recorded, other, trouble = result
    if trouble:
        print(f"FAILED {path} {release}\n{trouble}", flush=True)
        return True
    if options.show:
        print(recorded)
    text = path.read_text(errors="surrogateescape")
    label = "replay"
    expected = recorded
    if options.ours:
        expected, other, label = scenario.parse(text).recorded.get(release, ""), recorded, "ours over sockets"
    if options.write:
        path.write_text(scenario.with_recording(text, release, recorded), errors="surrogateescape")
    if expected == other:
        return False
    print(f"DIFFERENT {path} {release}")
    lines = difflib.unified_diff(expected.splitlines(), other.splitlines(), "real", label, lineterm="", n=2)
    print("\n".join(lines), flush=True)
    return True


if __name__ == "__main__":
    sys.exit(main())
