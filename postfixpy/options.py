"""Command-line options as getopt(3) reads them with "+": single letters, options before words, "--" ends them.

Postfix repeats and orders options (the last -o wins, -v counts), so the result is a list. The standard getopt module
does nearly this, but loads gettext and re, which every command would pay for.
"""


class OptionError(Exception):
    """An unknown letter, or one that lacks its argument: `letter`."""

    def __init__(self, letter: str) -> None:
        super().__init__(letter)
        self.letter = letter


def parse(arguments: list[str], letters: str) -> tuple[list[tuple[str, str]], list[str]]:
    """The (letter, argument) pairs and the words after them. `letters` is as in getopt(3): "c:v".

    Raises OptionError.
    """
    found: list[tuple[str, str]] = []
    position = 0
    while position < len(arguments):
        argument = arguments[position]
        if len(argument) < 2 or argument[0] != "-":
            break
        position += 1
        if argument == "--":
            break
        rest = argument[1:]
        while rest:
            letter, rest = rest[0], rest[1:]
            index = letters.find(letter)
            if index < 0 or letter == ":":
                raise OptionError(letter)
            if letters[index + 1 : index + 2] != ":":
                found.append((letter, ""))
                continue
            if not rest:
                if position >= len(arguments):
                    raise OptionError(letter)
                rest = arguments[position]
                position += 1
            found.append((letter, rest))
            break
    return found, arguments[position:]
