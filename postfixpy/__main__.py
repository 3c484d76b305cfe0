"""postfixpy NAME [arguments]: runs any command (postconf, sendmail, postqueue...) and any daemon (smtp, qmgr...).

The names, options, texts and exit statuses are Postfix's. `run` is also what the executables of ``postfixpy link``
call.
"""

import errno
import importlib
import os
import sys
from collections.abc import Callable

if not __package__:  # run by its file name (ipc/launch.py): the package may be a checkout that is not installed
    sys.path.append(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from postfixpy.commands import COMMANDS

WRITE_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
"""What write(2) fails with; an error that has no file name comes from an open stream."""


def usage() -> str:
    """The text of --help."""
    from postfixpy import __version__
    from postfixpy.services import PROGRAMS

    width = max(map(len, COMMANDS))
    commands = "\n".join(f"  {name:<{width}}  {sentence}" for name, (_, sentence) in COMMANDS.items())
    return f"""\
postfixpy {__version__}: runs a Postfix configuration without Postfix, and shows what it means.

usage: postfixpy NAME [arguments]
       postfixpy --help | --version

Commands, with Postfix's own options:
{commands}

Daemons, started by a master (see master.cf): {", ".join(sorted((*PROGRAMS, "master")))}

To run a configuration in the foreground, without root:
  postfixpy postfix -c DIR start-fg        DIR has main.cf and master.cf; queue_directory is one you own
  postfixpy sendmail -C DIR you@example.com < message
To look at one:
  postfixpy postconf -c DIR -n
"""


def run(name: str, argv: list[str]) -> int:
    """Run the command or daemon `name`; argv[0] is what it calls itself. The exit status; 127: no such name."""
    if name in COMMANDS:
        module = importlib.import_module(f"postfixpy.commands.{COMMANDS[name][0]}")
    else:
        from postfixpy.services import PROGRAMS

        if name not in PROGRAMS and name != "master":
            sys.stderr.write(f"postfixpy: unknown command: {name}\nTry: postfixpy --help\n")
            return 127
        module = importlib.import_module("postfixpy.services.run" if name in PROGRAMS else "postfixpy.services.master")
    return _finished(os.path.basename(argv[0]), lambda: int(module.main(argv)))


def _finished(name: str, action: Callable[[], int]) -> int:
    """The exit status of `action`, after its output has been written. What it dies of is one line, as in Postfix.

    Of output that cannot be written (a full disk) Postfix's postqueue says this; its other commands say nothing, and
    their exit status is 0: then nobody learns that the result is incomplete.
    """
    from postfixpy.errors import FatalError

    _open_streams()
    try:
        status = action()
    except FatalError as error:
        sys.stderr.write(f"{name}: fatal: {error}\n")
        status = error.status
    except BrokenPipeError:
        status = 1  # the reader of our output (head, less) has left: not an error, and nothing more can be said
    except KeyboardInterrupt:
        status = 130
    except OSError as error:
        _write_output()
        if error.errno not in WRITE_ERRORS or error.filename is not None:
            raise
        sys.stderr.write(f"{name}: fatal: output write error: {error.strerror}\n")
        return 1
    problem = _write_output()
    if problem and not status:
        sys.stderr.write(f"{name}: fatal: output write error: {problem}\n")
        return 1
    return status


def _write_output() -> str:
    """Write what waits for standard output: why that failed, or "". It is then dropped, or the interpreter would
    complain about it at exit."""
    problem = ""
    try:
        sys.stdout.flush()
        return ""
    except BrokenPipeError:
        pass
    except OSError as error:
        problem = error.strerror or str(error)
    null = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
    os.dup2(null, sys.stdout.fileno())
    os.close(null)
    return problem


def _open_streams() -> None:
    """Standard streams that are closed lead to /dev/null, or the next file that is opened would be taken for one."""
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        if getattr(sys, name) is None:
            null = os.open(os.devnull, os.O_RDWR)
            if null != number:
                os.dup2(null, number)
                os.close(null)
            setattr(sys, name, open(number, mode, encoding="utf-8", closefd=False))  # noqa: SIM115 - stays open


def main() -> int:
    """The entry point ``postfixpy`` and ``python -m postfixpy``."""
    return _finished("postfixpy", lambda: _main(sys.argv[1:]))


def _main(arguments: list[str]) -> int:
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        (sys.stdout if arguments else sys.stderr).write(usage())
        return 0 if arguments else 64
    if arguments[0] == "--version":
        from postfixpy import __version__

        sys.stdout.write(f"postfixpy {__version__}\n")
        return 0
    return run(arguments[0], arguments)


if __name__ == "__main__":
    sys.exit(main())
