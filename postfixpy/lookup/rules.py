"""regexp: and pcre: tables (regexp_table(5), pcre_table(5)): rules in order, ``if``/``endif``, ``$number``.

Both are one language around two engines. A rule that is wrong is logged with file and line, and skipped; the table
works without it. Lines are read as bytes (a delimiter is one byte, whatever the encoding), here as Latin-1 text.
"""

from typing import Any, Protocol

from postfixpy import log
from postfixpy.lookup import source
from postfixpy.lookup.prefilter import required
from postfixpy.lookup.syntax import (
    BRACKETED,
    LITERAL,
    SPACE,
    MacroError,
    braced,
    c_integer,
    logical_lines,
    split_macros,
    tokens,
)
from postfixpy.lookup.table import Flags, OpenError, Settings, Table, error_text


class Engine(Protocol):
    """A compiled pattern."""

    groups: int

    def test(self, subject: bytes) -> bool: ...
    def search(self, subject: bytes) -> list[bytes] | None: ...


class Rule:
    """One pattern with its result; an ``if`` has no result, and where to go on when it does not apply."""

    __slots__ = (
        "any_case",
        "jump",
        "line",
        "needs",
        "negated",
        "parts",
        "pattern",
        "second",
        "second_negated",
        "value",
    )

    def __init__(self, line: int, pattern: Engine, negated: bool) -> None:
        self.line = line
        self.pattern = pattern
        self.negated = negated
        self.needs = b""
        """A text, in lower case, without which a subject, in lower case, cannot match; empty if none is known."""
        self.second: Engine | None = None
        self.second_negated = False
        self.value: str | None = None
        """The result if it is always the same; None for an ``if``, or when `parts` make the result."""
        self.parts: list[bytes | int] | None = None
        """Literals and numbers of captured texts."""
        self.jump = -1
        """For an ``if``: the index of the rule to go to when it does not apply."""


class SkipRule(Exception):
    """A rule cannot be used; the reason is logged already."""


def rule_lines(kind: str, name: str) -> tuple[bytes, str]:
    """The text of the file `name`, or of the rules inside ``{ {rule}, {rule} }``; and the name for its warnings."""
    if name.startswith("{"):
        inside, error = braced(name, strip=False)
        lines = []
        for item in tokens(inside):
            if error:
                break
            rule, error = braced(item)
            lines.append(rule.encode("utf-8", "surrogateescape") + b"\n")
        if error:
            raise OpenError(f"{kind} map: {error}")
        return b"".join(lines), "unknown_stream"
    try:
        with open(name, "rb") as file:
            return file.read(), name
    except IsADirectoryError as error:
        if kind == "cidr":
            raise OpenError(f"cidr map {name}: read error: {error_text(error)}") from None
        return b"", name  # as in Postfix, a read error is the end of the rules
    except OSError as error:
        raise OpenError(f"open {name}: {error_text(error)}") from None


def is_word(text: str, word: str) -> bool:
    """Whether `text` starts with `word`, in any case, and not with a longer word."""
    after = text[len(word) : len(word) + 1]
    return text[: len(word)].lower() == word and not (after.isascii() and after.isalnum())


def _shown(text: str) -> str:
    """Latin-1 text, which stands for bytes, as the text that the bytes are."""
    return text.encode("latin-1").decode("utf-8", "surrogateescape")


class PatternTable(Table):
    """What regexp: and pcre: share. Subclasses give the options, the compiler, and the few texts that differ."""

    errors: tuple[type[Exception], ...] = ()
    options: dict[str, int]
    default_options = 0
    no_delimiter = "skipping this rule"
    out_of_range = "out of range"
    option_end = SPACE
    perl = False
    lone_backslash_closes = False
    """A backslash at the end of the line stands for the missing delimiter, by an accident of regexp: tables."""

    def __init__(self, name: str, settings: Settings, flags: Flags) -> None:
        super().__init__(name, settings, flags, pattern=True)
        self.rules: list[Rule] = []
        data, path = rule_lines(self.kind, name)
        open_ifs: list[Rule] = []
        for number, line in logical_lines(data, path, warn_of_null=self.warn_of_null):
            text = line.decode("latin-1").rstrip(SPACE)
            try:
                if text:
                    self._add(number, text, open_ifs)
            except SkipRule:
                continue
        for rule in reversed(open_ifs):
            rule.jump = len(self.rules)
            self._warn(rule.line, "IF has no matching ENDIF")
        # Rules that say something of subjects that do not match are always looked at.
        self._needs = [b"" if rule.negated or rule.jump >= 0 else rule.needs for rule in self.rules]

    # Lookup.

    def get(self, key: str) -> str | None:
        subject = key.encode("utf-8", "surrogateescape").partition(b"\0")[0]
        lower = subject.lower()
        start = 0
        for index in [index for index, text in enumerate(self._needs) if text in lower]:
            if index < start:
                continue
            rule = self.rules[index]
            try:
                groups: list[bytes] = []
                if rule.parts is None:
                    applies = rule.pattern.test(subject) != rule.negated
                else:
                    found = rule.pattern.search(subject)
                    applies = found is not None
                    groups = found or groups
                if applies and rule.second is not None:
                    applies = rule.second.test(subject) != rule.second_negated
            except self.errors as error:
                self._warn(rule.line, str(error))
                applies = False
            if not applies:
                if rule.jump >= 0:
                    start = rule.jump
            elif rule.value is not None:
                return rule.value
            elif rule.parts is not None:
                expanded = b"".join(groups[part] if isinstance(part, int) else part for part in rule.parts)
                return expanded.decode("utf-8", "surrogateescape")
        return None

    # Source.

    def compile(self, line: int, pattern: bytes, options: int) -> Engine:
        """Compile, or log why not and raise SkipRule."""
        raise NotImplementedError

    def _rule(self, line: int, pattern: bytes, options: int, negated: bool) -> Rule:
        rule = Rule(line, self.compile(line, pattern, options), negated)
        if bool(options & self.options["x"]) != self.perl:  # in the language that `required` knows
            rule.needs = required(pattern, perl=self.perl).lower()
        return rule

    def _warn(self, line: int, text: str) -> None:
        log.warning(f"{self.kind} map {self.label}, line {line}: {text}")

    def _skip(self, line: int, text: str) -> SkipRule:
        self._warn(line, text)
        return SkipRule()

    def _add(self, line: int, text: str, open_ifs: list[Rule]) -> None:
        first = text[0]
        if not (first.isascii() and first.isalnum()):
            self.rules.append(self._match_rule(line, text))
        elif is_word(text, "if"):
            rule = self._if_rule(line, text[2:].lstrip(SPACE))
            self.rules.append(rule)
            open_ifs.append(rule)
        elif is_word(text, "endif"):
            if not open_ifs:
                raise self._skip(line, "ignoring ENDIF without matching IF")
            if text[5:].strip(SPACE):
                self._warn(line, "ignoring extra text after ENDIF")
            open_ifs.pop().jump = len(self.rules)
        else:
            raise self._skip(line, "ignoring unrecognized request")

    def _if_rule(self, line: int, text: str) -> Rule:
        pattern, options, negated, rest = self._pattern(line, text)
        rest = rest.lstrip(SPACE)
        if rest:
            self._warn(line, f'ignoring extra text after IF statement: "{_shown(rest)}"')
            self._warn(line, "do not prepend whitespace to statements between IF and ENDIF")
        return self._rule(line, pattern, options, negated)

    def _match_rule(self, line: int, text: str) -> Rule:
        pattern, options, negated, rest = self._pattern(line, text)
        second: tuple[bytes, int, bool] | None = None
        if rest.startswith("!"):
            second_pattern, second_options, second_negated, rest = self._pattern(line, rest)
            second = second_pattern, second_options, second_negated
        rest = rest.lstrip(SPACE)
        if not rest:
            self._warn(line, "no replacement text: using empty string")
        parts = self._replacement(line, _shown(rest))
        largest = max((part for part in parts if isinstance(part, int)), default=0)
        if largest and negated:
            raise self._skip(line, "$number found in negative match replacement text: skipping this rule")
        if largest and self.flags & Flags.NO_REGSUB:
            raise self._skip(line, "regular expression substitution is not allowed: skipping this rule")
        rule = self._rule(line, pattern, options, negated)
        if largest > rule.pattern.groups:
            shown = (largest + (1 << 31)) % (1 << 32) - (1 << 31)  # as an int, which it was
            raise self._skip(line, f'out of range replacement index "{shown}": skipping this rule')
        if second is not None:
            rule.second, rule.second_negated = self.compile(line, second[0], second[1]), second[2]
        if largest:
            rule.parts = parts
        else:
            rule.value = b"".join(part for part in parts if isinstance(part, bytes)).decode("utf-8", "surrogateescape")
        return rule

    def _pattern(self, line: int, text: str) -> tuple[bytes, int, bool, str]:
        """The pattern, its options, whether it is negated, and the rest of the line."""
        rest = text.lstrip("!" + SPACE)
        negated = text[: len(text) - len(rest)].count("!") % 2 == 1
        if not rest:
            raise self._skip(line, "no regexp: skipping this rule")
        delimiter, position = rest[0], 1
        while position < len(rest):
            if rest[position] == "\\":  # even where it is the delimiter
                if position + 1 == len(rest) and self.lone_backslash_closes:
                    break
                position += 2
            elif rest[position] == delimiter:
                break
            else:
                position += 1
        if position >= len(rest):
            raise self._skip(line, f'no closing regexp delimiter "{_shown(delimiter)}": {self.no_delimiter}')
        pattern = rest[1:position].encode("latin-1")
        options, position = self.default_options, position + 1
        while position < len(rest) and rest[position] not in self.option_end:
            options ^= self._option(line, rest[position])
            position += 1
        return pattern, options, negated, rest[position:]

    def _option(self, line: int, letter: str) -> int:
        try:
            return self.options[letter]
        except KeyError:
            raise self._skip(line, f'unknown regexp option "{_shown(letter)}": skipping this rule') from None

    def _replacement(self, line: int, text: str) -> list[bytes | int]:
        if self.flags & Flags.RHS_IS_FILE:
            try:
                text = source.file_value(text)
            except ValueError as error:
                raise self._skip(line, f"{error}: skipping this rule") from None
        parts: list[bytes | int] = []
        bad = False
        try:
            for kind, part in split_macros(text):
                if kind == LITERAL:
                    parts.append(part.encode("utf-8", "surrogateescape"))
                elif bad and kind == BRACKETED:
                    break  # Postfix stops here, too, and after an error only here
                elif not (part.isascii() and part.isdigit()):
                    self._warn(line, f'non-numeric replacement index "{part}"')
                    bad = True
                elif c_integer(part) == 0:
                    self._warn(line, f'{self.out_of_range} replacement index "{part}"')
                    bad = True
                else:
                    parts.append(c_integer(part) % (1 << 64))
        except MacroError as error:
            log.warning(str(error))
            bad = True
        if bad:
            raise self._skip(line, "bad replacement syntax: skipping this rule")
        return parts


class Regexp(PatternTable):
    """``regexp:path``: POSIX regular expressions."""

    kind = "regexp"
    out_of_range = "out-of-range"
    option_end = SPACE + "!"
    lone_backslash_closes = True

    def __init__(self, name: str, settings: Settings, flags: Flags) -> None:
        from postfixpy.lookup import posix

        self.engine: Any = posix
        self.errors = (posix.PatternError,)
        self.options = {"i": posix.REG_ICASE, "m": posix.REG_NEWLINE, "x": posix.REG_EXTENDED}
        self.default_options = posix.REG_EXTENDED | posix.REG_ICASE
        super().__init__(name, settings, flags)

    def compile(self, line: int, pattern: bytes, options: int) -> Engine:
        try:
            compiled: Engine = self.engine.Pattern(pattern, options)
        except self.errors as error:
            raise self._skip(line, str(error)) from None
        return compiled


class Pcre(PatternTable):
    """``pcre:path``: Perl-compatible regular expressions."""

    kind = "pcre"
    no_delimiter = "ignoring this rule"
    perl = True

    def __init__(self, name: str, settings: Settings, flags: Flags) -> None:
        try:
            from postfixpy.lookup import pcre2
        except Exception as error:  # the module's own error class cannot be named before the import
            raise OpenError(f"unsupported dictionary type: pcre ({error})") from None
        self.engine: Any = pcre2
        self.errors = (pcre2.PatternError,)
        self.options = {
            "i": pcre2.CASELESS,
            "m": pcre2.MULTILINE,
            "s": pcre2.DOTALL,
            "x": pcre2.EXTENDED,
            "A": pcre2.ANCHORED,
            "E": pcre2.DOLLAR_ENDONLY,
            "U": pcre2.UNGREEDY,
        }
        self.default_options = pcre2.CASELESS | pcre2.DOTALL
        super().__init__(name, settings, flags)

    def _option(self, line: int, letter: str) -> int:
        if letter == "X":
            self._warn(line, 'ignoring obsolete regexp option "X"')
            return 0
        return super()._option(line, letter)

    def compile(self, line: int, pattern: bytes, options: int) -> Engine:
        try:
            compiled: Engine = self.engine.Pattern(pattern, options)
        except self.errors as error:
            offset = getattr(error, "offset", 0)
            raise self._skip(line, f"error in regex at offset {offset}: {error}") from None
        return compiled
