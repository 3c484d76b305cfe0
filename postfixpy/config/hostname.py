"""Host names as Postfix accepts them (valid_hostname(3)).

A host name has labels of letters, digits, "-" and "_" of at most 63 characters, 255 in all, is not made of digits only
and has no empty label.
"""

import re

MAX_LABEL, MAX_NAME = 63, 255

_CLEAN = re.compile(r"(?=.{1,255}\Z)(?:\*\.)?[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
                    r"(?:\.[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?)*", re.ASCII)  # fmt: skip


def hostname_problem(name: str, *, wildcard: bool = False) -> str:
    """Why `name` (ASCII) is not a valid host name, in the words of Postfix's warning; "" when it is valid.

    `wildcard`: a first label "*" is allowed.
    """
    if _CLEAN.fullmatch(name) and (name[0] != "*" or wildcard) and not name.replace(".", "").isdigit():
        return ""
    if not name:
        return "empty hostname"
    length = 0
    non_numeric = False
    data = name.encode("utf-8", "surrogateescape")
    for position, code in enumerate(data):
        char = chr(code)
        following = data[position + 1 : position + 2]
        if char == "_" or (char.isascii() and char.isalnum()):
            length += 1
            if length > MAX_LABEL:
                return f"hostname label too long: {name[:100]}"
            non_numeric = non_numeric or not char.isdigit()
        elif char == "*" and wildcard:
            if position or following != b".":
                return f"'*' can be the first label only: {name[:100]}"
            length, non_numeric = 1, True
        elif char == ".":
            if length == 0 or not following:
                return f"misplaced delimiter: {name[:100]}"
            length = 0
        elif char == "-":
            non_numeric = True
            length += 1
            if length == 1 or following in (b"", b"."):
                return f"misplaced hyphen: {name[:100]}"
        else:
            return f"invalid character {code}(decimal): {name[:100]}"
    if not non_numeric:
        return f"numeric hostname: {name[:100]}"
    if len(data) > MAX_NAME:
        return f"bad length {len(data)} for {name[:100]}..."
    return ""
