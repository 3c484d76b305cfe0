"""The command line of postconf: options of every release, ours, and which of them go together.

getopt(3) without permutation: options end at the first argument. (spec/postconf.md section 1.)
"""

from __future__ import annotations

import sys

from postfixpy import log
from postfixpy.config.inspect.show_main import CLASSES, Style
from postfixpy.config.lines import decode, encode, split_list
from postfixpy.config.parameters import read_rows
from postfixpy.errors import FatalError

TYPE_CHECKING = False  # not typing's, whose import costs a command two milliseconds
if TYPE_CHECKING:
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
        self.directory: str | None = None
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


def own_options(arguments: list[str]) -> tuple[Request, list[str]]:
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
            if _wants_next(word) and position < len(arguments):
                rest.append(arguments[position])
                position += 1
    return request, rest


def _wants_next(word: str) -> bool:
    """Whether the value of the last option in a bundle is the next word."""
    with_value = [index for index, letter in enumerate(word) if letter in "cCoT"]
    return not word.startswith("--") and with_value[:1] == [len(word) - 1]


def _usage(release: Release) -> tuple[str, str]:
    """The getopt string and the usage text of a release."""
    letters = text = ""
    for since, options, usage in read_rows("usage.tsv"):
        major, minor = since.split(".")
        if release >= (int(major), int(minor)):
            letters, text = options, usage
    return letters, text


def parse(request: Request, words: list[str], parameters: Database) -> None:
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
                problem = f"invalid option -- '{decode(encode(letter)[:1])}'"
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
                _say(request, problem)
            if problem or (letter == "E" and parameters.release >= (2, 9)):
                raise FatalError(f"usage: {request.program} {usage}")
            _take(request, letter, value, parameters.release)
    request.arguments = words[position:]


def _say(request: Request, problem: str) -> None:
    """A message of getopt(3)'s, which filters nothing."""
    if request.json:
        log.info(problem)
        return
    sys.stderr.flush()
    sys.stderr.buffer.write(encode(f"{request.program}: {problem}\n"))
    sys.stderr.flush()


def _take(request: Request, letter: str, value: str, release: Release) -> None:
    if letter == "c":
        request.directory = value
    elif letter == "C":
        request.classes = _parameter_classes(value, verbose=bool(request.verbose))
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
    elif letter == "P" and "P" in request.options and release >= (3, 11):
        letter = "PP"
    if letter != "c":
        request.options.add(letter)


def _parameter_classes(text: str, *, verbose: bool) -> set[str]:
    classes: set[str] = set()
    for word in split_list(text):
        name = word.lower()
        if verbose and (name == "all" or name in CLASSES):
            log.info(f"name_mask: {word}")
        if name == "all":
            classes.update(CLASSES)
        elif name in CLASSES:
            classes.add(name)
        else:
            raise FatalError(f'unknown -C option value "{word}" in "{text}"')
    return classes


def check_options(request: Request, release: Release) -> None:
    """Complete the options, and refuse those that do not go together."""
    options = request.options
    if request.origin:
        excess = options - {"p", "n", "d", "x", "o", "C"}
        shown = " ".join(f"-{other}" for other in OPTION_ORDER if other in excess)
        if excess:
            raise FatalError(f"with option --origin, do not specify {shown}")
        if request.arguments and "=" in request.arguments[0]:
            raise FatalError("with option --origin, do not specify name=value")
    if release < (2, 11):
        _check_options_before_2_11(request, release)
        return
    if options.isdisjoint(MAJOR_MODES):
        options.add("p")
    if request.has("p", "M", "F", "P") and request.arguments and "=" in request.arguments[0]:
        options.add("e")
    for exclusive in EXCLUSIVE:
        if "PP" in exclusive and release < (3, 11):
            continue
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


def _check_options_of_2_10(options: set[str]) -> None:
    modes = "-a, -A, -b, -d, -e, -#, -l, -m, -M, "
    if len(options & set("aAbde#lmMX")) > 1:
        raise FatalError(f"specify one of {modes}and -X")
    if "n" in options and options & set("aAbde#lmMX"):
        raise FatalError(f"do not specify -n with {modes}or -X")
    if "o" in options and options & set("aAbde#lmX"):
        raise FatalError("do not specify -o with -a, -A, -b, -d, -e, -#, -l, -m, or -X")
