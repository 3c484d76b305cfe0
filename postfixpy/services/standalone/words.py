"""The words of SMTP commands: addresses, and the parameters of RFC 3461 (DSN)."""

import re

from postfixpy.mail.addresses import ADDRESS, parse_addresses

_TOKEN = re.compile(
    r'<(?:"(?:\\.|[^"\\])*"|\\.|[^>"\\])*>[^ \t]*|(?:"(?:\\.|[^"\\])*"?|\\.|\\\Z|[^ \t"\\])+', re.DOTALL
)
_PATH_WORD = re.compile(r"[ \t]*(from|to)[ \t]*:", re.IGNORECASE)
_XTEXT = re.compile(r"\+([0-9A-F]{2})")
_UXTEXT = re.compile(r"\\x\{([0-9A-F]{2,6})\}")


class Path:
    """A word of a MAIL or RCPT command that should be an address; `text` as the client wrote it."""

    def __init__(self, text: str) -> None:
        self.text = text
        inner = text[1:-1] if text.startswith("<") and text.endswith(">") else text
        if inner.startswith("@") and ":" in inner:
            inner = inner.partition(":")[2]
        tokens = parse_addresses(inner)
        found = [token for token in tokens if token.kind == ADDRESS]
        self.address = found[-1].internal if found else ""
        self.addresses = len(found)
        self.noise = any(token.kind not in (ADDRESS, "<", ">") for token in tokens)

    @property
    def open(self) -> bool:
        """A bracket that is not closed."""
        return self.text.startswith("<") and not self.text.endswith(">")


def split(line: str) -> list[str]:
    """The words of a command. "FROM:" and "TO:" are words of their own, quoted strings and <...> are whole."""
    words = []
    match = re.match(r"[ \t]*([^ \t]+)", line)
    if match is None:
        return []
    words.append(match[1])
    rest = line[match.end() :]
    path = _PATH_WORD.match(rest)
    if path is not None and match[1].upper() in ("MAIL", "RCPT"):
        words.append(path[1] + ":")
        rest = rest[path.end() :]
    return words + _TOKEN.findall(rest)


def is_utf8(text: str) -> bool:
    """Whether `text` came from valid UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _xtext(text: str) -> str | None:
    """`text` without the encoding of RFC 3461; None when that is malformed."""
    if not is_utf8(text) or "+" in _XTEXT.sub("", text):
        return None
    decoded = _XTEXT.sub(lambda match: chr(int(match[1], 16)), text)
    return None if "\0" in decoded else decoded


def printable_xtext(text: str) -> bool:
    """Whether `text` is well-formed xtext of printable characters, as an ENVID must be."""
    decoded = _xtext(text)
    return decoded is not None and all(" " <= c <= "~" or c == "\t" for c in decoded)


def notify_mask(text: str) -> int:
    """The NOTIFY_* bits of a NOTIFY parameter; 0 when it is not valid."""
    bits = {"NEVER": 1, "SUCCESS": 2, "FAILURE": 4, "DELAY": 8}
    mask = 0
    for word in text.split(","):
        if word.upper() not in bits:
            return 0
        mask |= bits[word.upper()]
    return mask if mask == 1 or not mask & 1 else 0


def original_recipient(text: str) -> str:
    """``type;address`` with the address decoded; "" when malformed."""
    kind, semicolon, coded = text.partition(";")
    if not kind or not semicolon:
        return ""
    if kind.lower() == "utf-8":
        decoded: str | None = _UXTEXT.sub(lambda match: chr(min(int(match[1], 16), 0x10FFFF)), coded)
        if decoded is not None and ("\0" in decoded or not is_utf8(decoded)):
            decoded = None
    else:
        decoded = _xtext(coded)
    return "" if decoded is None else f"{kind};{decoded}"
