"""Runs of many scenarios at once, each in a process and in namespaces of its own."""

import multiprocessing
import traceback
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from postfixpy.migrate import scenario

from . import namespace, programs, run


class Job(NamedTuple):
    """A scenario with a program."""

    path: Path
    installation: programs.Installation


class Result(NamedTuple):
    """What became of a job: the text of the recording, or what went wrong."""

    job: Job
    recorded: str
    trouble: str


def record(job: Job) -> Result:
    """Do it, in this process, which is of no other use afterwards."""
    try:
        found = scenario.read(job.path)
        namespace.enter()
        return Result(job, run.record(found, job.installation), "")
    except Exception:
        return Result(job, "", traceback.format_exc())


def run_all(jobs: Iterable[Job], at_once: int, work: Callable[[Job], Result] = record) -> Iterator[Result]:
    """The results in order."""
    with multiprocessing.get_context("fork").Pool(at_once, maxtasksperchild=1) as pool:
        yield from pool.imap(work, jobs, chunksize=1)
