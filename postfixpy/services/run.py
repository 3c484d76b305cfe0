"""Runs a daemon by its program name: what master starts, and what the executables of ``postfixpy link`` call.

Under a real Postfix the release is that of the master that started us, or, without one, of the master beside our
executable: parameters, internal protocols and texts follow it. $POSTFIXPY_VERSION says otherwise.
"""

import importlib
import os
import sys
import time

from postfixpy.ipc import installed
from postfixpy.ipc.installed import OUR_MASTER

from . import PROGRAMS


def main(argv: list[str]) -> int:
    """Run the service class that `PROGRAMS` has for the base name of argv[0]. Returns the exit status."""
    if OUR_MASTER not in os.environ and not os.environ.get("POSTFIXPY_VERSION"):
        found = installed.release(os.path.dirname(sys.argv[0]))
        if found:
            os.environ["POSTFIXPY_VERSION"] = found
    if _serves_many_under_real_master(argv):
        from postfixpy.ipc.doorkeeper import split

        split()

    from postfixpy.ipc.runner import run

    try:
        module, _, name = PROGRAMS[os.path.basename(argv[0])].partition(":")
        factory = getattr(importlib.import_module(f"postfixpy.services.{module}"), name)
    except ImportError as error:
        return cannot_load(argv[0], error)
    return run(argv, factory)


def cannot_load(program: str, error: ImportError) -> int:
    """Log that a part of Python or a library is missing: standard error is nowhere under a master."""
    from postfixpy import log
    from postfixpy.errors import place_of
    from postfixpy.ipc import logging

    logging.install(os.path.basename(program))
    log.fatal(f"cannot load: {error} (at {place_of(error)})")
    time.sleep(1)
    return 1


def _serves_many_under_real_master(argv: list[str]) -> bool:
    """Whether a Postfix master started us for a service that may serve several clients at once."""
    from postfixpy.ipc.service_options import LETTERS
    from postfixpy.options import OptionError, parse

    if "GENERATION" not in os.environ or OUR_MASTER in os.environ:
        return False
    try:
        letters = {letter for letter, _ in parse(argv[1:], LETTERS)[0]}
    except OptionError:
        return False  # the runner reports it
    return not letters & {"l", "S"}
