"""postfixpy NAME [arguments]: runs any command (postconf, sendmail, postqueue...) and any daemon (smtp, qmgr...).

The names, options, texts and exit statuses are Postfix's. `run` is also what the executables of ``postfixpy link``
call.
"""

import importlib
import os
import sys

if not __package__:  # run by its file name (ipc/launch.py): the package may be a checkout that is not installed
    sys.path.append(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from postfixpy.commands import COMMANDS


def usage() -> str:
    """The text of --help."""
    from postfixpy import __version__
    from postfixpy.services import PROGRAMS

    width = max(map(len, COMMANDS))
    commands = "\n".join(f"  {name:<{width}}  {sentence}" for name, (_, sentence) in COMMANDS.items())
    return f"""\
postfixpy {__version__}: runs a Postfix configuration, shows what it means, and proves that it behaves as it did.

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
    from postfixpy.errors import FatalError

    if name in COMMANDS:
        module = importlib.import_module(f"postfixpy.commands.{COMMANDS[name][0]}")
    else:
        from postfixpy.services import PROGRAMS

        if name not in PROGRAMS and name != "master":
            sys.stderr.write(f"postfixpy: unknown command: {name}\nTry: postfixpy --help\n")
            return 127
        module = importlib.import_module("postfixpy.services.run" if name in PROGRAMS else "postfixpy.services.master")
    try:
        return int(module.main(argv))
    except FatalError as error:
        sys.stderr.write(f"{os.path.basename(argv[0])}: fatal: {error}\n")
        return error.status
    except BrokenPipeError:
        # The reader of our output (head, less) has left: not an error, and nothing more can be said.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        return 130


def main() -> int:
    """The entry point ``postfixpy`` and ``python -m postfixpy``."""
    arguments = sys.argv[1:]
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
