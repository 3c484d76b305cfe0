"""postconf(1): show and edit the configuration, as the postconf of the release asked for does.

    postconf [-options] [--postfix-version X.Y] [--profile upstream|debian] [--origin] [--json] [name...]

The options are those of the real program (spec/postconf.md). Ours:

--postfix-version X.Y   parameters, defaults, warnings and output of that release ($POSTFIXPY_VERSION; 3.11)
--profile NAME          compiled-in paths and tables of that build, upstream or debian (that of the machine)
--origin                with names or -n: where each effective value comes from, and which master.cf rows override it
--json                  one JSON document with everything that would be printed

Differs from Postfix: there is no pause of one second after a fatal error, and the warnings whose order the real program
randomises come in the order that it has with NORANDOMIZE.
"""

from __future__ import annotations

import os
import sys

from postfixpy import log
from postfixpy.config.inspect.names import Names
from postfixpy.config.inspect.rows import read_rows as read_master_rows
from postfixpy.config.inspect.show_main import CLASSES, Style, show_parameters
from postfixpy.config.lines import COMMA_SPACE, decode, encode
from postfixpy.config.main_cf import Settings, configuration_directory, read_settings
from postfixpy.config.parameters import database, read_rows
from postfixpy.errors import FatalError

TYPE_CHECKING = False  # not typing's, whose import costs a command two milliseconds
if TYPE_CHECKING:
    from collections.abc import Iterable

    from postfixpy.config.parameters import Database, Release

OPTION_ORDER = (*"aAbCdefFhHjlmMnopPtTxX#", "PP")
"""The order in which conflicting options are named."""

MAJOR_MODES = frozenset("aAblmtTpMFP")
EXCLUSIVE = (
    MAJOR_MODES,
    frozenset(("PP", "e", "#", "X")),
    frozenset(("d", "e", "n", "#", "X")),
    frozenset(("f", "e", "#", "X")),
    frozenset(("x", "e", "#", "X")),
    frozenset(("o", "d", "e", "#", "X")),
    frozenset(("h", "e", "#", "X", "H")),
)
COMPATIBLE = {
    **dict.fromkeys("aAblmTt", ""),
    "p": "e X # f h C x d n o H j",
    "M": "e X # f o x j",
    "F": "e f h o x H j",
    "P": "e X f h o x H j PP",
    "PP": "f h o x H j P",
    "j": "p M F P o x n d",
    "C": "p d n",
}
"""For each option, the only ones that may go with it."""


class Request:
    """The parsed command line."""

    def __init__(self, program: str) -> None:
        self.program = program
        self.options: set[str] = set()
        self.directory = ""
        self.classes = set(CLASSES)
        self.overrides: list[str] = []
        self.tls_mode = ""
        self.verbose = 0
        self.quiet = False
        self.release = ""
        self.profile = ""
        self.origin = False
        self.json = False
        self.arguments: list[str] = []

    def has(self, *letters: str) -> bool:
        """Whether any of these options was given."""
        return not self.options.isdisjoint(letters)

    def style(self) -> Style:
        """The display options."""
        style = Style()
        style.defaults = self.has("d")
        style.only_set = self.has("n")
        style.expand = self.has("x")
        style.fold = self.has("f")
        style.hide_name = self.has("h")
        style.hide_value = self.has("H")
        style.json = self.has("j")
        return style


def _sink(program: str) -> log.Sink:
    """Messages as the real program writes them: anything but printable ASCII becomes "?"."""

    def write(severity: str, text: str) -> None:
        prefix = "" if severity == "info" else f"{severity}: "
        record = b"".join(bytes((byte,)) if 32 <= byte < 127 else b"?" for byte in encode(f"{program}: {prefix}{text}"))
        sys.stdout.flush()
        sys.stderr.buffer.write(record + b"\n")
        sys.stderr.flush()

    return write


def main(argv: list[str]) -> int:
    """Run postconf; argv[0] is the program name as typed. Returns the exit status."""
    previous = log.set_sink(_sink(argv[0]))
    try:
        return run(argv)
    except FatalError as error:
        log.fatal(str(error))
        return error.status
    finally:
        log.set_sink(previous)


def run(argv: list[str]) -> int:
    """Like main, but raises FatalError."""
    arguments = [decode(os.fsencode(argument)) for argument in argv]
    own, rest = _own_options(arguments)
    parameters = database(own.release, own.profile)
    _parse(own, rest, parameters)
    _check_options(own, parameters.release)
    return _dispatch(own, parameters)


def _own_options(arguments: list[str]) -> tuple[Request, list[str]]:
    """Take out the options that only we have; they may stand anywhere before the first argument."""
    request = Request(arguments[0])
    rest = []
    position = 1
    while position < len(arguments):
        word = arguments[position]
        name, equals, value = word.partition("=")
        position += 1
        if word == "--" or not word.startswith("-"):
            rest += arguments[position - 1 :]
            break
        if name in ("--postfix-version", "--profile"):
            if not equals:
                if position >= len(arguments):
                    raise FatalError(f"option {name} requires an argument")
                value = arguments[position]
                position += 1
            setattr(request, "release" if name == "--postfix-version" else "profile", value)
        elif word in ("--origin", "--json"):
            setattr(request, word[2:], True)
        else:
            rest.append(word)
            if word[-1:] in "cCoT" and not word.startswith("--") and position < len(arguments):
                rest.append(arguments[position])
                position += 1
    return request, rest


def _usage(release: Release) -> tuple[str, str]:
    """The getopt string and the usage text of a release."""
    letters = text = ""
    for since, options, usage in read_rows("usage.tsv"):
        major, minor = since.split(".")
        if release >= (int(major), int(minor)):
            letters, text = options, usage
    return letters, text


def _parse(request: Request, words: list[str], parameters: Database) -> None:
    """getopt(3): options up to the first argument, possibly bundled."""
    letters, usage = _usage(parameters.release)
    position = 0
    while position < len(words):
        word = words[position]
        if word == "--":
            position += 1
            break
        if len(word) < 2 or word[0] != "-":
            break
        position += 1
        index = 1
        while index < len(word):
            letter = word[index]
            index += 1
            value = ""
            problem = ""
            if letter == ":" or letter not in letters:
                problem = f"invalid option -- '{letter}'"
            elif f"{letter}:" in letters:
                if index < len(word):
                    value = word[index:]
                elif position < len(words):
                    value = words[position]
                    position += 1
                else:
                    problem = f"option requires an argument -- '{letter}'"
                index = len(word)
            if problem:
                log.info(problem)
            if problem or (letter == "E" and parameters.release >= (2, 9)):
                raise FatalError(f"usage: {request.program} {usage}")
            _take(request, letter, value)
    request.arguments = words[position:]


def _take(request: Request, letter: str, value: str) -> None:
    if letter == "c":
        request.directory = value
    elif letter == "C":
        request.classes = _parameter_classes(value)
        return
    elif letter == "v":
        request.verbose += 1
        return
    elif letter == "q":
        request.quiet = True
        return
    elif letter == "o":
        request.overrides.append(value)
    elif letter == "T":
        if "T" in request.options:
            raise FatalError("At most one -T <mode> option may be specified")
        request.tls_mode = value
    elif letter in "bt" and not request.options.isdisjoint("bt"):
        raise FatalError("specify one of -b and -t")
    elif letter == "P" and "P" in request.options:
        letter = "PP"
    if letter != "c":
        request.options.add(letter)


def _parameter_classes(text: str) -> set[str]:
    classes: set[str] = set()
    for separator in COMMA_SPACE[1:]:
        text = text.replace(separator, ",")
    for word in text.split(","):
        name = word.lower()
        if name == "all":
            classes.update(CLASSES)
        elif name in CLASSES:
            classes.add(name)
        elif name:
            raise FatalError(f'unknown -C option value "{word}" in "{text}"')
    return classes


def _check_options(request: Request, release: Release) -> None:
    """Complete the options, and refuse those that do not go together."""
    options = request.options
    if release < (2, 11):
        _check_options_before_2_11(request, release)
        return
    if options.isdisjoint(MAJOR_MODES):
        options.add("p")
    if request.has("p", "M", "F", "P") and request.arguments and "=" in request.arguments[0]:
        options.add("e")
    for exclusive in EXCLUSIVE:
        chosen = [f"-{letter}" for letter in OPTION_ORDER if letter in exclusive & options]
        if len(chosen) > 1:
            raise FatalError(f"specify one of {(', ' if release >= (3, 11) else ' ').join(chosen)}")
    for letter, companions in COMPATIBLE.items():
        if letter in options:
            excess = options - {letter} - set(companions.split())
            if excess:
                shown = " ".join(f"-{other}" for other in OPTION_ORDER if other in excess)
                raise FatalError(f"with option -{letter}, do not specify {shown}")
    if request.has("e") and not request.arguments:
        raise FatalError("-e requires name=value argument")


def _check_options_before_2_11(request: Request, release: Release) -> None:
    """One set of modes, of which one may be chosen; -e by a value from 2.8."""
    options = request.options
    if release >= (2, 10):
        _check_options_of_2_10(options)
    modes = [mode for mode in ("a", "A", "b", "d", "e", "#", "m", "M", "l", "n", "t", "X") if mode in options]
    if len(modes) > 1:
        names = "-a, -A, -b, -d, -e, -#, -m, -l and -n" if release >= (2, 6) else "-a, -A, -b, -d, -e, -m, -l and -n"
        if release >= (2, 9):
            names = "-a, -A, -b, -d, -e, -#, -l, -m, -M and -n"
        raise FatalError(f"specify one of {names}")
    if not modes and release >= (2, 8) and request.arguments and "=" in request.arguments[0]:
        options.add("e")
    if options.isdisjoint(MAJOR_MODES):
        options.add("p")


BUFFER = 4096


def _check_options_of_2_10(options: set[str]) -> None:
    modes = "-a, -A, -b, -d, -e, -#, -l, -m, -M, "
    if len(options & set("aAbde#lmMX")) > 1:
        raise FatalError(f"specify one of {modes}and -X")
    if "n" in options and options & set("aAbde#lmMX"):
        raise FatalError(f"do not specify -n with {modes}or -X")
    if "o" in options and options & set("aAbde#lmX"):
        raise FatalError("do not specify -o with -a, -A, -b, -d, -e, -#, -l, -m, or -X")


def _write(lines: Iterable[str]) -> None:
    """Write lines in blocks, as the real program does: after a fatal error, a block that is not full is lost."""
    output = sys.stdout.buffer
    pending = bytearray()
    for line in lines:
        pending += encode(line)
        if len(pending) >= BUFFER:
            whole = len(pending) // BUFFER * BUFFER
            output.write(pending[:whole])
            del pending[:whole]
    output.write(pending)
    output.flush()


def _dispatch(request: Request, parameters: Database) -> int:
    if request.has("b", "t"):
        _show_templates(request, parameters)
        return 0
    if request.has("m", "l", "a", "A", "T"):
        return _show_build(request, parameters)
    directory = configuration_directory(request.directory)
    if request.has("e", "X", "#"):
        _edit(request, directory, parameters)
        return 0
    names = _read(request, parameters, directory)
    deprecated = False
    if request.origin:
        from postfixpy.config.inspect import origin

        _write(origin.show(names, request.style(), request.arguments, as_json=request.json))
        return 0
    if request.json:
        from postfixpy.config.inspect import document

        _write(document.show(names, request.style(), request.classes, request.options, request.arguments))
    elif request.has("M", "F", "P"):
        _write(_master_lines(names, request))
    else:
        _write(show_parameters(names, request.style(), request.classes, request.arguments))
    if not request.quiet and not request.has("d"):
        from postfixpy.config.inspect import unused

        main_too = not request.has("M", "F", "P") or parameters.release < (2, 11)
        deprecated = unused.warn_unused(names, main=main_too)
        if deprecated:
            unused.warn_deprecated_pointer(names)
    return 0


def _read(request: Request, parameters: Database, directory: str) -> Names:
    """Read the configuration and find out which names it uses."""
    release = parameters.release
    master_mode = request.has("M", "F", "P")
    given = bool(request.directory or os.environ.get("MAIL_CONFIG"))
    preset = {"config_directory": directory} if given or release < (2, 9) else {}
    settings = Settings(f"{directory}/main.cf")
    rows = None
    if master_mode:
        rows = read_master_rows(f"{directory}/master.cf", release, required=True)
    if request.has("d"):
        settings.values.update(preset)
    else:
        settings = read_settings(f"{directory}/main.cf", release, preset)
    names = Names(parameters, directory, settings, request.program)
    names.quiet = request.quiet
    names.verbose = request.verbose
    names.defaults_only = request.has("d")
    names.override(request.overrides)
    if release < (2, 9):
        return names
    if rows is None:
        rows = read_master_rows(f"{directory}/master.cf", release, required=False)
    names.add_rows(rows)
    if not request.has("d"):
        names.find_used_names()
    return names


def _master_lines(names: Names, request: Request) -> Iterable[str]:
    from postfixpy.config.inspect import show_master

    style = request.style()
    if request.has("F"):
        return show_master.show_fields(names, style, request.arguments)
    if request.has("P"):
        every = request.has("PP")
        return show_master.show_settings(names, style, request.classes, request.arguments, all_names=every)
    return show_master.show_rows(names, style, request.arguments)


def _edit(request: Request, directory: str, parameters: Database) -> None:
    from postfixpy.config.inspect import edit_main

    mode = "-" + next(letter for letter in ("e", "X", "#") if request.has(letter))
    if not request.arguments and parameters.release >= (2, 11):
        raise FatalError("missing service argument")
    if request.has("M", "F", "P"):
        from postfixpy.config.inspect import edit_master

        what = "-" + next(letter for letter in ("M", "F", "P") if request.has(letter))
        edit_master.edit_master(what, mode, request.arguments, directory, parameters)
    else:
        edit_main.edit_main(mode, request.arguments, directory, parameters)


def _show_templates(request: Request, parameters: Database) -> None:
    """The bounce templates (-t), or their texts with values (-b), as bounce(8) prints them."""
    from postfixpy.config.configuration import load
    from postfixpy.services.notices import templates

    if len(request.arguments) > 1:
        raise FatalError("options -b and -t require at most one template file")
    overrides = [("bounce_template_file", argument) for argument in request.arguments]
    configuration = load(request.directory, release=parameters.release_name, profile=parameters.profile)
    view = configuration.view(overrides=[*overrides, ("queue_directory", ".")], process_name="bounce")
    log.set_sink(_sink(f"{view.syslog_name}/bounce"))
    show = templates.dump if request.has("t") else templates.expand_all
    _write([show(templates.load(view), view)])


def _show_build(request: Request, parameters: Database) -> int:
    from postfixpy.config.inspect import builds

    option = next(letter for letter in ("m", "l", "a", "A", "T") if request.has(letter))
    if option == "T":
        option = f"T:{request.tls_mode}"
        if request.tls_mode not in ("compile-version", "run-version", "public-key-algorithms"):
            log.warning(f"unknown 'postconf -T' mode: {request.tls_mode}")
            return 1
    if option == "m":
        directory = configuration_directory(request.directory)
        read_settings(f"{directory}/main.cf", parameters.release, {"config_directory": directory})
    lines = builds.listing(parameters, option)
    if request.json:
        from postfixpy.config.inspect import document

        _write(document.array(lines))
    else:
        _write(f"{line}\n" for line in lines)
    return 0
