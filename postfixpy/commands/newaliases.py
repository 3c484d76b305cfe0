"""newaliases(1): makes the tables of $alias_database with postalias(1), as sendmail -bi does."""

import os

from postfixpy import config, log
from postfixpy.commands import postalias, tables
from postfixpy.errors import FatalError
from postfixpy.ipc.startup import check
from postfixpy.lookup.syntax import tokens
from postfixpy.lookup.table import error_text

EX_TEMPFAIL = 75
_LETTERS = "A:B:C:F:GIL:N:O:R:UV:X:b:ce:f:h:imno:p:r:q:tvx"
"""sendmail's options: most of them mean nothing here, as in Postfix."""


def main(argv: list[str]) -> int:
    """Run newaliases; the exit status. ``-C`` names the configuration, ``-oA`` the table to make instead."""
    log.set_sink(log.stderr_sink(os.path.basename(argv[0]) or argv[0]))
    try:
        return run(argv)
    except FatalError as error:
        log.fatal(str(error))
        return EX_TEMPFAIL  # whatever it was: as with sendmail(1)


def run(argv: list[str]) -> int:
    """`main` without the rendering of errors."""
    try:
        options, arguments = tables.getopt(argv, _LETTERS)
    except tables.UsageError as error:
        raise FatalError(f"usage: {os.path.basename(argv[0])} [options] ({error})") from None
    asked = ""
    verbose = []
    for letter, value in options:
        if letter == "C":
            os.environ["MAIL_CONFIG"] = os.path.dirname(value) if value.endswith(".cf") else value
        elif letter == "o" and value.startswith("A"):
            asked = value[1:]
        elif letter == "v":
            verbose.append("-v")
    if arguments:
        raise FatalError("alias initialization mode requires no recipient")
    view = config.load().view()
    check(view)
    names = [asked] if asked else list(tokens(view.alias_database, braces=False))
    try:
        os.chdir(view.queue_directory)  # relative names count from there
    except OSError as error:
        raise FatalError(f"chdir {view.queue_directory}: {error_text(error)}") from None
    return postalias.main(["postalias", *verbose, "--", *names]) if names else 0
