"""postlog(1): log a text, or the lines of standard input, as the mail system does.

    postlog [-c config_dir] [-i] [-p priority] [-t tag] [-v] [text...]

-p is info (default), warn, warning, error, err, fatal, crit or panic. -i is accepted: the process id is always
logged. The text is also written to standard error; before release 3.8, only at a terminal. A fatal or worse text takes
a second, as everywhere.
"""

import os
import sys
import time

from postfixpy import log
from postfixpy.errors import FatalError
from postfixpy.options import OptionError, parse

LEVELS = {
    "info": "info",
    "warn": "warning",
    "warning": "warning",
    "error": "error",
    "err": "error",
    "fatal": "fatal",
    "crit": "fatal",
    "panic": "panic",
}


def main(argv: list[str]) -> int:
    """Run the command; argv[0] is not used: the user may have chosen it. Returns the exit status."""
    log.set_sink(log.stderr_sink("postlog"))
    try:
        return _main(argv)
    except FatalError as error:
        log.fatal(str(error))
        time.sleep(1)
        return error.status


def _main(argv: list[str]) -> int:
    try:
        found, words = parse(argv[1:], "c:ip:t:v")
    except OptionError:
        usage = "usage: postlog [-c config_dir] [-i] [-p priority] [-t tag] [-v] [text]"
        raise FatalError(usage) from None
    level, tag = "info", ""
    for letter, value in found:
        if letter == "c":
            os.environ["MAIL_CONFIG"] = value
        elif letter == "p":
            if value.lower() not in LEVELS:
                raise FatalError(f'bad severity: "{value}"')
            level = LEVELS[value.lower()]
        elif letter == "t":
            tag = log.printable(value)

    from postfixpy.config import load
    from postfixpy.ipc import logging
    from postfixpy.ipc.startup import check

    view = load().view(process_name="postlog")
    check(view)
    tag = tag or logging.task("postlog", view)
    logger = logging.install("postlog", view, fallback=True, tag=tag)
    if view.release >= (3, 8) or os.isatty(2):
        logger.also_to_stderr()
    if words:
        logger(level, " ".join(words))
    else:
        for line in sys.stdin.buffer:
            logger(level, line.rstrip(b"\n").decode("utf-8", "surrogateescape"))
    if level in ("fatal", "panic"):
        time.sleep(1)
    return 0
