"""The two forms of an address: internal (as is) and external (local part quoted where RFC 5322 needs it).

Tables hold the external form, programs work with the internal form (quote_822_local(3)).
"""

_SPECIAL = frozenset('()<>@,;:\\"[] ' + "".join(map(chr, range(32))) + "\x7f")


def _start(address: str) -> int:
    """Where the local part starts: after a source route ``@a,@b:``."""
    return address.find(":") + 1 if address.startswith("@") else 0


def is_dot_string(local: str) -> bool:
    """Whether a local part needs no quotes: atoms joined by single dots, 8-bit text allowed."""
    if not local or local[0] == "." or local[-1] == "." or ".." in local:
        return False
    return _SPECIAL.isdisjoint(local)


def quote(address: str, *, bare_local: bool = False) -> str:
    """`address` in external form. `bare_local`: it is a local part only, and an ``@`` in it is part of that."""
    start = _start(address)
    end = -1 if bare_local else address.rfind("@", start)
    if end < 0:
        end = len(address)
    local = address[start:end]
    if is_dot_string(local):
        return address
    quoted = "".join("\\" + char if char in '"\\\r' else char for char in local)
    return f'{address[:start]}"{quoted}"{address[end:]}'


def unquote(address: str) -> str:
    """`address` in internal form: the quotes and backslashes of the part before the last unquoted ``@`` are gone."""
    start = _start(address)
    if '"' not in address and "\\" not in address:
        return address
    result = [address[:start]]
    quoted, at = False, -1
    domain = ""
    position = start
    while position < len(address):
        char = address[position]
        if char == '"':
            quoted = not quoted
            position += 1
            continue
        if char == "@" and not quoted:
            at, domain = len(result), address[position:]
        elif char == "\\":
            position += 1
            if position == len(address):
                break
            char = address[position]
        result.append(char)
        position += 1
    return "".join(result[:at]) + domain if at >= 0 else "".join(result)
