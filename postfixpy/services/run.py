"""Runs a daemon by its program name: what master starts, and what the executables of ``postfixpy link`` call."""

import importlib
import os

from . import PROGRAMS


def main(argv: list[str]) -> int:
    """Run the service class that `PROGRAMS` has for the base name of argv[0]. Returns the exit status."""
    from postfixpy.ipc.runner import run

    module, _, name = PROGRAMS[os.path.basename(argv[0])].partition(":")
    return run(argv, getattr(importlib.import_module(f"postfixpy.services.{module}"), name))
