#!/usr/bin/env python3
"""Changes our client, one small mutation at a time, and shows which scenario notices: can the proof see at all?

    tools/mutate.py            run all of tools/mutations.py, print a table; exit status 1 if one is not noticed
    tools/mutate.py WORD...    those with a word in their description, with the first difference of each
    tools/mutate.py --write    also store which scenario notices which mutation, in compat/mutations.json

A mutation is a text that occurs once in a module of postfixpy, and what stands there instead, in memory. Each runs in a
process of its own that replays the scenarios until one differs from what the real Postfix did; the one that noticed
the last time (compat/mutations.json) comes first.
"""

import argparse
import importlib.abc
import importlib.machinery
import importlib.util
import json
import multiprocessing
import signal
import sys
import tempfile
import time
import types
from collections.abc import Sequence
from pathlib import Path

from mutations import MUTATIONS, Mutation

TOP = Path(__file__).resolve().parent.parent
NOTICED = TOP / "compat/mutations.json"
TIME_LIMIT = 60
"""Seconds for a scenario: a mutation that makes the client run for ever is noticed, too."""


class Patch(importlib.abc.MetaPathFinder):
    """Imports one module from another source text."""

    def __init__(self, mutation: Mutation) -> None:
        self.name = "postfixpy." + mutation.module.removesuffix(".py").replace("/", ".")
        self.path = TOP / "postfixpy" / mutation.module
        self.text = mutated(mutation)

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: types.ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname != self.name:
            return None
        text = self.text

        class Loader(importlib.machinery.SourceFileLoader):
            def get_code(self, fullname: str) -> types.CodeType:
                code: types.CodeType = compile(text, self.path, "exec", dont_inherit=True)
                return code

        return importlib.util.spec_from_loader(fullname, Loader(fullname, str(self.path)))


def mutated(mutation: Mutation) -> str:
    """The module's text with the mutation. Raises ValueError when it does not fit the text any more."""
    text = (TOP / "postfixpy" / mutation.module).read_text()
    if text.count(mutation.old) != 1:
        raise ValueError(f"occurs {text.count(mutation.old)} times in {mutation.module}: {mutation.old!r}")
    return text.replace(mutation.old, mutation.new)


def noticed() -> dict[str, str]:
    """The scenario that noticed each mutation the last time."""
    found: dict[str, str] = json.loads(NOTICED.read_text()) if NOTICED.exists() else {}
    return found


def name_of(path: Path) -> str:
    return str(path.relative_to(TOP / "compat/scenarios").with_suffix(""))


def run(mutation: Mutation) -> tuple[str, str]:
    """The first scenario that notices, "" for none, and the first line that differs. In a process of its own."""
    try:
        sys.meta_path.insert(0, Patch(mutation))
    except ValueError as error:
        return "STALE", str(error)
    from postfixpy.migrate import replay_smtp, scenario

    def too_long(*_: object) -> None:
        raise TimeoutError("runs for ever")

    signal.signal(signal.SIGALRM, too_long)
    top = TOP / "compat/scenarios"
    first = top / f"{noticed().get(mutation.text, '')}.txt"
    for path in [*([first] if first.exists() else []), *scenario.files([str(top)])]:
        found = scenario.read(path)
        # The newest release only, where it is recorded: the older ones go the same ways.
        release, expected = list(found.recorded.items())[-1] if found.recorded else ("", "")
        if not release or found.only_live:
            continue
        with tempfile.TemporaryDirectory() as directory:
            signal.alarm(TIME_LIMIT)
            try:
                ours = replay_smtp.replay(found, directory, release)
            except Exception as error:
                return name_of(path), f"{type(error).__name__}: {error}"
            finally:
                signal.alarm(0)
        if ours != expected:
            pairs = zip(expected.splitlines(), ours.splitlines(), strict=False)
            return name_of(path), next((f"{a}  ->  {b}" for a, b in pairs if a != b), "one is longer")
    return "", ""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("words", nargs="*", help="only mutations with such a word in their description")
    parser.add_argument("--write", action="store_true", help="store which scenario notices")
    options = parser.parse_args()
    words = [word.lower() for word in options.words]
    chosen = [m for m in MUTATIONS if not words or any(word in m.text.lower() for word in words)]
    start = time.monotonic()
    caught = 0
    memory = noticed() if words else {}
    with multiprocessing.get_context("fork").Pool(maxtasksperchild=1) as pool:
        for mutation, (where, line) in zip(chosen, pool.imap(run, chosen), strict=True):
            if where and where != "STALE":
                caught += 1
                memory[mutation.text] = where
            print(f"{mutation.text:64} {where or '*** SURVIVES ***'}", flush=True)
            if words or where == "STALE":
                print(f"    {line}")
    if options.write:
        NOTICED.write_text(json.dumps(memory, indent=1, sort_keys=True) + "\n")
    print(f"{len(chosen)} mutations, {caught} caught, {time.monotonic() - start:.0f} s")
    return 0 if caught == len(chosen) else 1


if __name__ == "__main__":
    sys.exit(main())
