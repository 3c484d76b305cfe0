"""Errors, classed by whose fault they are and by what must happen next.

FatalError        ours or the administrator's: the program cannot go on. The edge (a command's or a service's
                  main) renders it as Postfix does, ``NAME: fatal: TEXT``, and exits with `status`.
TemporaryError    local and passing (disk full, table server away, no memory): the request is deferred, 4.3.0.

Nothing below the edge prints, logs a fatal text itself, or calls sys.exit.
"""

import os

PACKAGE = os.path.dirname(os.path.abspath(__file__)) + os.sep


class PostfixError(Exception):
    """Base of the errors that have a text for people in Postfix's words. str(error) is that text."""


class FatalError(PostfixError):
    """The program cannot go on. `status` is the exit status: 1, or one of sysexits.h (EX_USAGE 64 ... EX_CONFIG 78)."""

    def __init__(self, text: str, status: int = 1) -> None:
        super().__init__(text)
        self.status = status


class TemporaryError(PostfixError):
    """It may work later: defer, never bounce, never say "not found"."""


def place_of(error: BaseException) -> str:
    """Where an exception came from: ``file:line (function)``, the innermost place in this package, whose files are
    named from its top; where none of it was in this package, the innermost place."""
    trace = error.__traceback__
    found, ours = "unknown", False
    while trace is not None:
        code = trace.tb_frame.f_code
        inside = code.co_filename.startswith(PACKAGE)
        if inside or not ours:
            found = f"{code.co_filename.removeprefix(PACKAGE)}:{trace.tb_lineno} ({code.co_name})"
            ours = inside
        trace = trace.tb_next
    return found


def describe(error: BaseException) -> str:
    """An exception that nobody expected in one line: what, and where in our code."""
    return f"unexpected {type(error).__name__} at {place_of(error)}: {error}"
