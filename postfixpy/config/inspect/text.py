"""The text forms of postconf's output: normalised and folded lines, and JSON strings."""

from postfixpy.config.lines import encode

SEPARATORS = " \t\r\n"
LINE_LIMIT = 80
INDENT = "    "


def words_of(text: str) -> list[str]:
    """The words between blanks, tabs, CR and LF; other white space stays."""
    for separator in SEPARATORS[1:]:
        if separator in text:
            text = text.replace(separator, " ")
    return [word for word in text.split(" ") if word]


def width(text: str) -> int:
    """The length of `text` in bytes, which is what Postfix counts."""
    return len(text) if text.isascii() else len(encode(text))


def line(text: str, *, fold: bool = False) -> str:
    """`text` with single blanks between words, ending in a newline; folded to 80 columns if asked."""
    words = words_of(text)
    if not fold:
        return " ".join(words) + "\n"
    pieces: list[str] = []
    column = 0
    for word in words:
        size = width(word)
        if column > 0:
            if column + size < LINE_LIMIT:
                pieces.append(" ")
                column += 1
            else:
                pieces.append("\n" + INDENT)
                column = len(INDENT)
        pieces.append(word)
        column += size
    return "".join(pieces) + "\n"


_ESCAPES = {'"': '\\"', "\\": "\\\\", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t"}


def json_string(text: str) -> str:
    """`text` as a JSON string, quoted the way Postfix does: DEL too, and nothing beyond ASCII."""
    if text.isprintable() and '"' not in text and "\\" not in text:
        return f'"{text}"'
    pieces = [_ESCAPES.get(char) or (f"\\u{ord(char):04X}" if char < " " or char == "\x7f" else char) for char in text]
    return '"' + "".join(pieces) + '"'


def json_line(name: str, value: str) -> str:
    """One object a line: ``{"name": "value"}``."""
    return f"{{{json_string(name)}: {json_string(value)}}}\n"
