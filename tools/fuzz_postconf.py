#!/usr/bin/env python3
"""Generated configurations and command lines, given to the real postconf and to ours: nothing may differ.

    tools/fuzz_postconf.py [--release 3.11] [--count N] [--seed N] [--kind listings|edits|soup|new]

The invariant is that of tests/config/inspect/test_real_postconf.py, whose generator this uses: same output, messages,
status and files. Runs COUNT cases of each kind; what differs is made small and shown, once for each sort of difference.
Ends with 1 if anything differs. Needs root for a release that is not the machine's own.
"""

import argparse
import re
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import hypothesis
from hypothesis import HealthCheck, Phase, settings

from tests.config.inspect import generated
from tests.config.inspect.generated import Case
from tests.config.inspect.real_postconf import Outcome, Real, run_ours


def smaller(case: Case) -> Iterator[Case]:
    """The case without one of its words, lines or pieces of a line."""
    for index in range(len(case.words)):
        yield case._replace(words=case.words[:index] + case.words[index + 1 :])
    for name, text in case.files.items():
        if text is None or text == "/":
            continue
        if text:
            yield case._replace(files={**case.files, name: ""})
        for separator in ("\n", " "):
            parts = text.split(separator)
            for index in range(len(parts)):
                rest = separator.join(parts[:index] + parts[index + 1 :])
                yield case._replace(files={**case.files, name: rest})
        if len(text) > 2000:
            yield case._replace(files={**case.files, name: text[:1000] + text[-500:]})


def difference(real: Outcome, ours: Outcome) -> str:
    """What sort of difference it is; "" if there is none. What crashes the real one is none."""
    if real[0] < 0 or real == ours:
        return ""
    parts = ["status"] if real[0] != ours[0] else []
    parts += ["output"] if real[1] != ours[1] else []
    if real[2] != ours[2]:
        one, two = (set(text.splitlines()) for text in (real[2], ours[2]))
        lines = {re.sub(r'".*|[./\w]*/|[=:].*:|\d+', "", line.decode("utf-8", "replace"))[:70] for line in one ^ two}
        parts += sorted(lines)[:2] or ["order of messages"]
    if real[3] != ours[3]:
        parts += ["files"]
    return ", ".join(parts)


class Fuzzer:
    """Finds the differences of one release."""

    def __init__(self, release: str) -> None:
        self.release = release
        self.real = Real(release)
        self.found: dict[str, Case] = {}
        self.cases = self.good = 0

    def differs(self, case: Case) -> str:
        """The sort of difference of one case."""
        real = self.real.run(case)
        self.good += real[0] == 0
        return difference(real, self.ours(case))

    def ours(self, case: Case) -> Outcome:
        """Our answer; a traceback is one, too."""
        try:
            return run_ours(case, self.real)
        except Exception as error:
            last = traceback.extract_tb(error.__traceback__)[-1]
            return 99, b"", f"{type(error).__name__} in {last.filename}:{last.lineno}".encode(), {}

    def check(self, case: Case) -> None:
        """Run a case; show a small one for each new sort of difference."""
        self.cases += 1
        sort = self.differs(case)
        if sort and sort not in self.found and len(self.found) < 40:
            self.found[sort] = case
            self.show(sort, self.reduced(case, sort))

    def reduced(self, case: Case, sort: str) -> Case:
        """A case that is as small as taking pieces away makes it, and still differs in the same way."""
        steps = 400
        while True:
            for candidate in smaller(case):
                steps -= 1
                if steps < 0:
                    return case
                if self.differs(candidate) == sort:
                    case = candidate
                    break
            else:
                return case

    def show(self, sort: str, case: Case) -> None:
        """Print a case with both answers."""
        print(f"--- {self.release}: {sort}\n{case}")
        real, ours = self.real.run(case), self.ours(case)
        for what, one, two in zip(("status", "output", "messages", "files"), real, ours, strict=True):
            if one != two:
                print(f"  real {what}: {str(one)[:500]}\n  ours {what}: {str(two)[:500]}")
        sys.stdout.flush()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--release", default="3.7")
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--kind", choices=("listings", "edits", "soup", "new"))
    given = parser.parse_args()
    fuzzer = Fuzzer(given.release)
    kinds = {"listings": generated.LISTINGS, "edits": generated.EDITS, "soup": generated.SOUP}
    if given.release == "3.11":
        kinds["new"] = generated.NEW_LISTINGS
    try:
        for name in [given.kind] if given.kind else kinds:
            fuzzer.cases = fuzzer.good = 0
            run = settings(
                max_examples=given.count,
                suppress_health_check=list(HealthCheck),
                phases=(Phase.generate,),
                database=None,
                deadline=None,
            )(hypothesis.seed(given.seed)(hypothesis.given(generated.cases(kinds[name]))(fuzzer.check)))
            run()
            counts = f"{fuzzer.cases} cases, {fuzzer.good} without error"
            print(f"{given.release} {name}: {counts}; {len(fuzzer.found)} differences so far")
            sys.stdout.flush()
    finally:
        fuzzer.real.close()
    return 1 if fuzzer.found else 0


if __name__ == "__main__":
    sys.exit(main())
