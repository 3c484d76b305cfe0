"""The options that master(8) gives a service process (spec/smtp-client.md 15.1, 15.2; single_server(3)).

Pure: argv in, `Options` out. Differs from Postfix in nothing.
"""

import os
from dataclasses import dataclass, field

from postfixpy.config.lines import split_name_value
from postfixpy.errors import FatalError
from postfixpy.options import OptionError, parse

LETTERS = "cdDi:lm:n:o:r:s:St:uvVz"
TRANSPORTS = ("inet", "unix", "pass", "fifo", "unix-dgram")


@dataclass(slots=True)
class Options:
    """What the command line of a service says.

    overrides       name, value of every -o, -i and -m, in order
    sockets         listening sockets, from descriptor 6
    retire          seconds until the process ends by itself; 0: it does not
    """

    program: str
    service: str
    transport: str = ""
    overrides: list[tuple[str, str]] = field(default_factory=list)
    sockets: int = 1
    chroot: bool = False
    unprivileged: bool = False
    alone: bool = False
    unlimited: bool = False
    stand_alone: bool = False
    daemon: bool = True
    debug: bool = False
    retire: int = 0
    verbose: int = 0
    stderr: bool = False
    words: list[str] = field(default_factory=list)


def parse_options(argv: list[str]) -> Options:
    """Read a service's command line; argv[0] names the program. Raises FatalError with Postfix's texts."""
    program = os.path.basename(argv[0])
    options = Options(program, program)
    try:
        found, options.words = parse(argv[1:], LETTERS)
    except OptionError as error:
        raise FatalError(f"invalid option: {error.letter}") from None
    flags = {"c": "chroot", "u": "unprivileged", "l": "alone", "z": "unlimited", "S": "stand_alone", "D": "debug"}
    for letter, value in found:
        match letter:
            case "c" | "u" | "l" | "z" | "S" | "D":
                setattr(options, flags[letter], True)
            case "d":
                options.daemon = False
            case "i":
                options.overrides.append(("max_idle", value))
            case "m":
                options.overrides.append(("max_use", value))
            case "n":
                options.service = value
            case "o":
                try:
                    options.overrides.append(split_name_value(value))
                except ValueError as error:
                    raise FatalError(f'invalid "-o {value}" option value: {error}') from None
            case "r":
                options.retire = _positive(value, "retirement time")
            case "s":
                options.sockets = _positive(value, "socket_count")
            case "t":
                options.transport = value
            case "v":
                options.verbose += 1
            case "V":
                options.stderr = True
    return options


def _positive(text: str, what: str) -> int:
    digits = len(text) - len(text.lstrip("0123456789"))
    number = int(text[:digits] or "0")
    if number <= 0:
        raise FatalError(f"invalid {what}: {text}")
    return number


def check_transport(options: Options, allowed: tuple[str, ...]) -> None:
    """Raises FatalError when -t is missing, or names what the service cannot do."""
    if options.stand_alone:
        return
    if not options.transport:
        raise FatalError("no transport type specified")
    options.transport = options.transport.lower()
    if options.transport not in allowed:
        raise FatalError(f"unsupported transport type: {options.transport}")


def parse_generation(text: str | None) -> int:
    """The value of $GENERATION, octal. Raises FatalError."""
    if text is None:
        return 0
    if not text or not all("0" <= c <= "7" for c in text):
        raise FatalError(f"bad generation: {text}")
    return int(text, 8)
