"""Runs a daemon by its program name: what master starts, and what the executables of ``postfixpy link`` call."""

import importlib
import os

from . import PROGRAMS


def main(argv: list[str]) -> int:
    """Run the service class that `PROGRAMS` has for the base name of argv[0]. Returns the exit status."""
    if _under_real_master(argv):
        from postfixpy.ipc.doorkeeper import split

        split()

    from postfixpy.ipc.runner import run

    module, _, name = PROGRAMS[os.path.basename(argv[0])].partition(":")
    return run(argv, getattr(importlib.import_module(f"postfixpy.services.{module}"), name))


def _under_real_master(argv: list[str]) -> bool:
    """Whether a Postfix master started us for a service that may serve several clients at once."""
    from postfixpy.ipc.doorkeeper import OUR_MASTER
    from postfixpy.ipc.service_options import LETTERS
    from postfixpy.options import OptionError, parse

    if "GENERATION" not in os.environ or OUR_MASTER in os.environ:
        return False
    try:
        letters = {letter for letter, _ in parse(argv[1:], LETTERS)[0]}
    except OptionError:
        return False  # the runner reports it
    return not letters & {"l", "S"}
