"""Lookups per second for each local table type, beside the real postmap on the same keys.

    python tools/bench_tables.py [ENTRIES]

"ours" is one process that calls Table.lookup, as a service does; the two postmap columns are ``postmap -q -`` with the
same keys on standard input, start of the program included. Rates on a shared machine vary; look at the ratios.
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from postfixpy import config
from postfixpy.commands import postmap
from postfixpy.lookup import Flags, open_table

QUERIES = 20_000


def sources(entries: int) -> dict[str, list[str]]:
    """The lines of a source for each type. Rules are searched one by one, so those tables are small."""
    plain = [f"user{i}@example.com box{i}" for i in range(entries)]
    networks = [f"10.{i >> 16 & 255}.{i >> 8 & 255}.{i & 255} r{i}" for i in range(entries)]
    rules = [f"/^user{i}@(.*)$/ $1" for i in range(20)]
    return dict.fromkeys(("hash", "btree", "cdb", "lmdb", "texthash"), plain) | {
        "cidr": networks,
        "regexp": rules,
        "pcre": rules,
        "static": ["x"],
    }


def keys(kind: str, entries: int) -> list[str]:
    """What is looked up: half of it is there."""
    numbers = [i * 7919 % (2 * entries) for i in range(QUERIES)]
    if kind == "cidr":
        return [f"10.{i >> 16 & 255}.{i >> 8 & 255}.{i & 255}" for i in numbers]
    if kind in ("regexp", "pcre"):
        return [f"user{i % 40}@example.com" for i in numbers]
    return [f"user{i}@example.com" for i in numbers]


def timed_postmap(command: list[str], spec: str, stdin: bytes, environment: dict[str, str]) -> tuple[float, bytes]:
    """Seconds and output of ``postmap -q -``."""
    start = time.perf_counter()
    done = subprocess.run([*command, "-q", "-", spec], input=stdin, stdout=subprocess.PIPE, env=environment)
    return time.perf_counter() - start, done.stdout


def main() -> None:
    """Print a table."""
    entries = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    print(f"{entries} entries, {QUERIES} lookups; lookups per second")
    print(f"{'type':10} {'ours':>10} {'our postmap':>12} {'real postmap':>13} {'same':>5}")
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "main.cf").write_text("compatibility_level = 3.6\n")
        environment["MAIL_CONFIG"] = os.environ["MAIL_CONFIG"] = folder
        view = config.load(folder).view()
        for kind, lines in sources(entries).items():
            path = Path(folder) / kind
            path.write_text("\n".join(lines) + "\n")
            spec = f"{kind}:{path}" if kind != "static" else "static:x"
            if kind in ("hash", "btree", "cdb", "lmdb"):
                postmap.main(["postmap", spec])
            wanted = keys(kind, entries)
            table = open_table(spec, view, flags=Flags.MAPS | Flags.DUP_WARN, surrogates=False)
            start = time.perf_counter()
            for key in wanted:
                table.lookup(key)
            seconds = time.perf_counter() - start
            stdin = "\n".join(wanted).encode() + b"\n"
            ours, our_output = timed_postmap([sys.executable, "-m", "postfixpy", "postmap"], spec, stdin, environment)
            row = f"{kind:10} {QUERIES / seconds:10.0f} {QUERIES / ours:12.0f}"
            if os.path.exists("/usr/sbin/postmap"):
                real, output = timed_postmap(["/usr/sbin/postmap"], spec, stdin, environment)
                row += f" {QUERIES / real:13.0f} {'yes' if output == our_output else 'NO':>5}"
            print(row)


if __name__ == "__main__":
    main()
