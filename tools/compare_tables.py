#!/usr/bin/env python3
"""postmap, postalias and newaliases beside the real ones: generated tables, names, keys and options.

    tools/compare_tables.py [--release 3.7|3.11|...] [--kind KIND] [--cases N] [--seed SEED] [--jobs N] [--configs DIR]

A case is a few files and a few command lines. Each command runs twice in equal directories, once as the real program of
the release (3.7 is the machine's, others are roots made by tools/real_root.py) and once as ours with that release's
behaviour; exit status, standard output and standard error must be the same to the byte. What is left out of the
comparison is in `shown` and `Case.unordered`, with the reason. The first differences are printed; the exit status is 1
if there are any. --configs takes the table sources below DIR instead of generated ones.

Needs root for releases other than the machine's (chroot), and no network.
"""

import argparse
import atexit
import multiprocessing
import os
import re
import shutil
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import real_root
import table_servers
from table_case import PROGRAMS, Case, Step
from table_cases import KINDS, NOT_TABLES, configured, generated
from table_databases import SERVED

HOME = "3.7"
"""The release of the machine's own package."""
OLD = 1_000_000_000
"""When the generated files were last changed: texthash: reads a file again that has just changed."""


Result = tuple[int, bytes, bytes]


class Servers:
    """The servers that the cases of `kinds` ask. Raises table_servers.Missing."""

    def __init__(self, kinds: set[str]) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="table-servers."))
        self.folder.chmod(0o777)  # they have users of their own
        table_servers.certificates(self.folder)
        self.certificates = {path.name: path.read_bytes() for path in self.folder.glob("*.[kp]e[my]")}
        self.running: list[table_servers.Process | table_servers.Script] = []
        self.at: dict[str, str] = {}
        """Name -> where it listens."""
        try:
            if "pgsql" in kinds:
                self._add("pgsql", table_servers.Postgres(self.folder))
            if "mysql" in kinds:
                self._add("mysql", table_servers.Mariadb(self.folder))
            if "ldap" in kinds:
                slapd = table_servers.Slapd(self.folder)
                self._add("ldap", slapd)
                self.at["ldaps"] = f"127.0.0.1:{slapd.tls_port}"
            self._add("script", table_servers.Script())
        except BaseException:
            self.stop()
            raise

    def _add(self, name: str, server: Any) -> None:
        self.running.append(server)
        self.at[name] = f"127.0.0.1:{server.port}"

    def stop(self) -> None:
        """Stop all of them."""
        for server in self.running:
            server.stop()
        shutil.rmtree(self.folder, ignore_errors=True)


SERVERS: Servers | None = None
"""Those that run, if cases need them."""


def start_servers(kinds: Iterable[str]) -> None:
    """Start those that the cases of `kinds` ask, until the program ends. Raises table_servers.Missing."""
    global SERVERS
    if SERVERS is None and set(kinds) & set(SERVED):
        SERVERS = Servers(set(kinds))
        owner = os.getpid()
        atexit.register(lambda servers: servers.stop() if os.getpid() == owner else None, SERVERS)


class Side:
    """How one of the two programs is run."""

    def __init__(self, release: str, ours: bool) -> None:
        self.release, self.ours = release, ours
        self.root = "" if release == HOME else str(real_root.root(release))
        self.memcached: table_servers.Memcached | None = None
        """Each side has its own: programs change it."""

    def served(self, text: str) -> str:
        """`text` with where the servers listen."""
        if SERVERS is None or "@" not in text:
            return text
        if "@memcache@" in text:
            if self.memcached is None:
                self.memcached = table_servers.Memcached(SERVERS.folder, f"memcached{os.getpid()}{self.ours}")
            self.memcached.clear()
            text = text.replace("@memcache@", f"127.0.0.1:{self.memcached.port}")
        for name, place in SERVERS.at.items():
            text = text.replace(f"@{name}@", place)
        return text

    def close(self) -> None:
        """Stop what was started."""
        if self.memcached is not None:
            self.memcached.stop()

    def run(self, directory: Path, step: Step) -> Result:
        """Run the command in `directory`."""
        step = replace(step, line=[self.served(word) for word in step.line])
        stdin, stdout, stderr = (directory / f"../{name}" for name in ("stdin", "stdout", "stderr"))
        stdin.write_bytes(step.stdin)
        child = os.fork()
        if child == 0:
            status = 70
            try:
                os.environ.clear()
                os.environ.update(PATH="/usr/sbin:/usr/bin:/sbin:/bin", LC_ALL="C.UTF-8", TZ="UTC")
                os.dup2(os.open(stdin, os.O_RDONLY), 0)
                os.dup2(os.open(stdout, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 1)
                os.dup2(os.open(stderr, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 2)
                status = self._ours(directory, step) if self.ours else self._real(directory, step)
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(status)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        return status, stdout.read_bytes(), stderr.read_bytes()

    def _ours(self, directory: Path, step: Step) -> int:
        from postfixpy.commands import newaliases, postalias, postmap

        os.chdir(directory)
        os.environ.update(POSTFIXPY_VERSION=self.release, MAIL_CONFIG=str(directory))
        sys.stdin = open(0, closefd=False)  # noqa: SIM115  # the program's for as long as it runs
        sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115
        sys.stderr = open(2, "w", closefd=False, errors="surrogateescape")  # noqa: SIM115
        program = {"postmap": postmap, "postalias": postalias, "newaliases": newaliases}[step.program]
        status: int = program.main([step.program, *step.line])
        sys.stdout.flush()
        sys.stderr.flush()
        return status

    def _real(self, directory: Path, step: Step) -> int:
        inside = str(directory)
        if self.root:
            inside = inside.removeprefix(self.root)
            os.chroot(self.root)
        os.chdir(inside)
        os.environ["MAIL_CONFIG"] = inside
        folder = "/usr/bin" if step.program == "newaliases" else "/usr/sbin"
        os.execv(f"{folder}/{step.program}", [step.program, *map(os.fsencode, step.line)])


_NOISE = re.compile(
    rb"(?<=error in regex at offset) \d+|\. Is the postfix-.*"
    rb"|(?<=not found: )(Temporary failure in name resolution|Name or service not known)"
    rb"|(?<=TLS/SSL error: )(no such file|No such file or directory \(2\))"
    rb"|(?<=\(Errcode: )-?\d+|(?<=fatal: table mysql:\./c: query error: ).*"
    rb"|(?<=fatal: table ldap:\./c: query error: ).*"
)
_OTHERS = re.compile(
    rb"^BDB|digital envelope routines|hash/btree support is deprecated|NON_BERKELEYDB_README"
    rb"| warning: .* package installed\?"
)


def shown(
    result: Result, directory: str, memcached: table_servers.Memcached | None = None
) -> tuple[int, list[bytes], list[bytes]]:
    """A result without what cannot be compared: messages of the Berkeley DB library (we have none); Debian's note that
    hash: and btree: are deprecated (not Postfix's), and the question whether a package of the name of an unknown type
    is installed (we have no such packages); the time in an alias database; where in a pattern an error is, which
    differs with the version of libpcre2.
    """
    status, out, err = result
    if memcached is not None:
        err = err.replace(b"127.0.0.1:%d" % memcached.port, b"MEMCACHED")
    lines = [
        _NOISE.sub(b"", line.replace(os.fsencode(directory), b"HERE"))
        for line in err.split(b"\n")
        if not _OTHERS.search(line)
    ]
    out = re.sub(rb"YP_LAST_MODIFIED(\W+)\d+", rb"YP_LAST_MODIFIED\1TIME", out)
    return status, out.split(b"\n"), lines


class Comparison:
    """Runs cases on both sides."""

    def __init__(self, release: str) -> None:
        self.real, self.ours = Side(release, ours=False), Side(release, ours=True)
        place = f"{self.real.root}/tmp"
        self.folder = Path(tempfile.mkdtemp(prefix="tables.", dir=place))
        self.folder.chmod(0o755)
        self.results: list[Result] = []
        """What the real programs did in the last case."""

    def close(self) -> None:
        """Remove the files, and stop what was started."""
        self.real.close()
        self.ours.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def run(self, case: Case) -> Iterator[str]:
        """What differs, as texts."""
        self.results.clear()
        sides = (self.folder / "a" / "work", self.folder / "b" / "work")
        for side, place in ((self.real, sides[0]), (self.ours, sides[1])):
            shutil.rmtree(place, ignore_errors=True)
            place.mkdir(parents=True)
            files = {"main.cf": f"compatibility_level = 3.6\n{case.main_cf}".encode(), **case.files}
            if case.served:
                files = {name: os.fsencode(side.served(os.fsdecode(data))) for name, data in files.items()}
                files |= SERVERS.certificates if SERVERS is not None else {}
            for name, data in files.items():
                (place / name).write_bytes(data)
                os.utime(place / name, (OLD, OLD))
        for step in case.steps:
            if step.program == "swap":
                left, right = (place / step.line[0] for place in sides)
                if left.exists() and right.exists():
                    left.rename(self.folder / "swap")
                    right.rename(left)
                    (self.folder / "swap").rename(right)
                continue
            if step.program == "copy":  # the real one's file for both
                if (sides[0] / step.line[0]).exists():
                    shutil.copy(sides[0] / step.line[0], sides[1] / step.line[0])
                continue
            self.results.append(self.real.run(sides[0], step))
            real = shown(self.results[-1], str(sides[0]).removeprefix(self.real.root), self.real.memcached)
            ours = shown(self.ours.run(sides[1], step), str(sides[1]), self.ours.memcached)
            if step.unordered:
                real, ours = (((r[0], sorted(r[1]), r[2])) for r in (real, ours))
            if real != ours:
                yield describe(case, step, real, ours)
                return  # what follows may differ for this reason


def describe(case: Case, step: Step, real: object, ours: object) -> str:
    """A difference, with all that is needed to see it again."""
    files = "".join(
        f"--- {name}\n{data[:1500]!r}\n" for name, data in case.files.items() if name not in ("db", "options")
    )
    head = f"=== {case.name}: {step.program} {step.line}\nmain.cf: {case.main_cf!r}\nstdin: {step.stdin[:600]!r}\n"
    return f"{head}{files}real: {str(real)[:1500]}\nours: {str(ours)[:1500]}\n"


_comparison: Comparison | None = None


def _start(release: str) -> None:
    global _comparison
    _comparison = Comparison(release)
    atexit.register(_comparison.close)
    multiprocessing.util.Finalize(None, _comparison.close, exitpriority=10)


def _work(job: tuple[str, int] | Path) -> tuple[str, int, list[str]]:
    comparison = _comparison
    assert comparison is not None
    release = comparison.real.release
    if isinstance(job, Path):
        cases = list(configured(job))
        label = "configs"
    else:
        cases, label = [generated(job[0], release, job[1])], job[0]
    steps = sum(step.program in PROGRAMS for case in cases for step in case.steps)
    found = []
    for case in cases:
        where = "" if isinstance(job, Path) else f"--release {release} --kind {job[0]} --seed {job[1]} --cases 1\n"
        found += [where + text for text in comparison.run(case)]
    return label, steps, found


def main() -> int:
    """Compare, print what differs, and how much was compared."""
    parser = argparse.ArgumentParser(description="postmap beside the real one")
    parser.add_argument("--release", default=HOME)
    parser.add_argument("--kind", action="append", choices=list(KINDS))
    parser.add_argument("--cases", type=int, default=50, help="how many of each kind")
    parser.add_argument("--seed", type=int, default=0, help="the first case")
    parser.add_argument("--jobs", type=int, default=16, help="the real programs sleep a second before they die")
    parser.add_argument("--show", type=int, default=10, help="how many differences to print")
    parser.add_argument("--configs", type=Path)
    parser.add_argument("--step", type=int, default=1, help="with --configs: every so many-th file")
    arguments = parser.parse_args()
    jobs: list[tuple[str, int] | Path]
    if arguments.configs:
        paths = [path for path in sorted(arguments.configs.rglob("*")) if path.is_file()]
        jobs = [path for path in paths if not path.name.endswith(NOT_TABLES)][:: arguments.step]
    else:
        kinds = arguments.kind or list(KINDS)
        start_servers(kinds)
        numbers = range(arguments.seed, arguments.seed + arguments.cases)
        jobs = [(kind, number) for number in numbers for kind in kinds]
    start, commands, differences = time.monotonic(), 0, Counter[str]()
    with multiprocessing.Pool(arguments.jobs, _start, (arguments.release,)) as pool:
        for label, steps, found in pool.imap_unordered(_work, jobs):
            commands += steps
            for text in found:
                if differences.total() < arguments.show:
                    sys.stdout.write(text + "\n")
                differences[label] += 1
        pool.close()
        pool.join()
    seconds = time.monotonic() - start
    sys.stdout.write(f"{arguments.release}: {len(jobs)} cases, {commands} commands each side, {seconds:.0f} s; ")
    sys.stdout.write(f"{differences.total()} differ {dict(differences) or ''}\n")
    return 1 if differences else 0


if __name__ == "__main__":
    sys.exit(main())
