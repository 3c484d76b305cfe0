"""Lookups per second for each local table type, beside the real postmap on the same keys.

    python tools/bench_tables.py [ENTRIES [RELEASE]]

Rates are per second of processor time, so that a busy machine changes them little. "ours" is one process that calls
Table.lookup, as a service does, without the time to open the table, which has a column of its own; the two postmap
columns are ``postmap -q -`` with the same keys on standard input, start of the program and opening included. RELEASE is
that of the real one: 3.7, the machine's, or one that tools/real_root.py has made. cidr has ten times as many
networks; the rules of regexp and pcre are a thousand.
"""

import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import real_root

from postfixpy import config
from postfixpy.commands import postmap
from postfixpy.lookup import Flags, open_table

QUERIES = 20_000
RULES = 1000


def sources(entries: int) -> dict[str, list[str]]:
    """The lines of a source for each type."""
    plain = [f"user{i}@example.com box{i}" for i in range(entries)]
    networks = [f"10.{i >> 16 & 255}.{i >> 8 & 255}.{i & 255} r{i}" for i in range(10 * entries)]
    rules = [f"/^user{i}@(.*)$/ $1" for i in range(RULES)]
    return dict.fromkeys(("hash", "btree", "cdb", "lmdb", "texthash"), plain) | {
        "cidr": networks,
        "regexp": rules,
        "pcre": rules,
        "inline": ["x"],
        "static": ["x"],
        "unionmap": ["x"],
    }


def keys(kind: str, entries: int) -> list[str]:
    """What is looked up: half of it is there. Fewer keys where the real one takes long."""
    numbers = [i * 7919 % (2 * entries) for i in range(QUERIES)]
    if kind == "cidr":
        return [f"10.{i >> 16 & 255}.{i >> 8 & 255}.{i & 255}" for i in numbers[: QUERIES // 4]]
    if kind in ("regexp", "pcre"):
        return [f"user{i % (2 * RULES)}@example.com" for i in numbers[: QUERIES // 4]]
    return [f"user{i}@example.com" for i in numbers]


def timed_postmap(command: list[str], spec: str, stdin: bytes, environment: dict[str, str]) -> tuple[float, bytes]:
    """Seconds of processor time, and the output, of ``postmap -q -``."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([*command, "-q", "-", spec], input=stdin, stdout=subprocess.PIPE, env=environment)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, done.stdout


def main() -> None:
    """Print a table."""
    entries = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    release = sys.argv[2] if len(sys.argv) > 2 else "3.7"
    root = "" if release == "3.7" else str(real_root.root(release))
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1]), "POSTFIXPY_VERSION": release}
    print(f"{entries} entries, {QUERIES} lookups; lookups per second of processor time; the real one is {release}")
    print(f"{'type':10} {'open ms':>8} {'ours':>10} {'our postmap':>12} {'real postmap':>13} {'same':>5}")
    with tempfile.TemporaryDirectory(dir=f"{root}/tmp") as folder:
        os.chmod(folder, 0o755)
        (Path(folder) / "main.cf").write_text("compatibility_level = 3.6\n")
        environment["MAIL_CONFIG"] = os.environ["MAIL_CONFIG"] = folder
        view = config.load(folder).view()
        for kind, lines in sources(entries).items():
            path = Path(folder) / kind
            path.write_text("\n".join(lines) + "\n")
            spec = SPECS.get(kind, f"{kind}:{path}")
            if kind in ("hash", "btree", "cdb", "lmdb"):
                postmap.main(["postmap", spec])
            wanted = keys(kind, entries)
            start = time.process_time()
            table = open_table(spec, view, flags=Flags.MAPS | Flags.DUP_WARN, surrogates=False)
            opened = time.process_time()
            for key in wanted:
                table.lookup(key)
            seconds = time.process_time() - opened
            stdin = "\n".join(wanted).encode() + b"\n"
            ours, our_output = timed_postmap([sys.executable, "-m", "postfixpy", "postmap"], spec, stdin, environment)
            count = len(wanted)
            row = f"{kind:10} {1000 * (opened - start):8.0f} {count / seconds:10.0f} {count / ours:12.0f}"
            if os.path.exists(f"{root}/usr/sbin/postmap"):
                inside = folder.removeprefix(root)
                command = [*(["chroot", root] if root else []), "/usr/sbin/postmap", "-c", inside]
                real, output = timed_postmap(command, spec.replace(folder, inside), stdin, environment)
                row += f" {count / real:13.0f} {'yes' if output == our_output else 'NO':>5}"
            print(row, flush=True)


SPECS = {
    "static": "static:x",
    "inline": "inline:{" + " ".join(f"user{i}@example.com=box{i}" for i in range(100)) + "}",
    "unionmap": "unionmap:{static:a, inline:{user1@example.com=b}}",
}
"""Tables without a file."""


if __name__ == "__main__":
    main()
