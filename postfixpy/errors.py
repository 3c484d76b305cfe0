"""Errors, classed by whose fault they are and by what must happen next.

FatalError        ours or the administrator's: the program cannot go on. The edge (a command's or a service's
                  main) renders it as Postfix does, ``NAME: fatal: TEXT``, and exits with `status`.
TemporaryError    local and passing (disk full, table server away, no memory): the request is deferred, 4.3.0.

Nothing below the edge prints, logs a fatal text itself, or calls sys.exit.
"""


class PostfixError(Exception):
    """Base of the errors that have a text for people in Postfix's words. str(error) is that text."""


class FatalError(PostfixError):
    """The program cannot go on. `status` is the exit status: 1, or one of sysexits.h (EX_USAGE 64 ... EX_CONFIG 78)."""

    def __init__(self, text: str, status: int = 1) -> None:
        super().__init__(text)
        self.status = status


class TemporaryError(PostfixError):
    """It may work later: defer, never bounce, never say "not found"."""
