"""Syntax of network addresses in mail: bare, and in RFC 5321 form (valid_hostaddr(3), valid_mailhost_addr(3)).

The `*_complaint` functions give "" for good input and otherwise Postfix's warning text, for the callers that log it.
Names of hosts are in postfixpy.dns.names.
"""

import re

MAX_LITERAL = 45
"""Longest text inside [] that can be an address (INET6_ADDRSTRLEN - 1)."""


def ipv4_complaint(address: str) -> str:
    """Why `address` is not a dotted quad, or ""."""
    where = "valid_ipv4_hostaddr:"
    count, value, in_octet = 0, 0, False
    for position, c in enumerate(address):
        after = address[position + 1 : position + 2]
        if c.isascii() and c.isdigit():
            if not in_octet:
                in_octet, value = True, 0
                count += 1
            value = value * 10 + int(c)
            if value > 255:
                return f"{where} invalid octet value: {address:.100}"
        elif c == ".":
            if not in_octet or not after:
                return f"{where} misplaced dot: {address:.100}"
            if count == 1 and value == 0 and address.strip("0."):
                return f"{where} bad initial octet value: {address:.100}"
            in_octet = False
        else:
            octet = c.encode("utf-8", "surrogateescape")[0]
            return f"{where} invalid character {octet}(decimal): {address:.100}"
    return "" if count == 4 else f"{where} invalid octet count: {address:.100}"


_HEX = re.compile("[0-9a-fA-F]*")


def ipv6_complaint(address: str) -> str:
    """Why `address` is not an IPv6 address (RFC 4291 text form), or ""."""
    where = "valid_ipv6_hostaddr:"
    position = field = length = null_field = 0
    while True:
        c = address[position : position + 1]
        if not c:
            if field < 2:
                return f"{where} too few `:' in IPv6 address: {address:.100}"
            if length == 0 and null_field != field - 1:
                return f"{where} bad null last field in IPv6 address: {address:.100}"
            return ""
        if c == ".":
            if not 2 <= field <= 6:
                return f"{where} malformed IPv4-in-IPv6 address: {address:.100}"
            return ipv4_complaint(address[position - length :])
        if c == ":":
            after = address[position + 1 : position + 2]
            if field == 0 and length == 0 and after.isascii() and after.isalnum():
                return f"{where} bad null first field in IPv6 address: {address:.100}"
            field += 1
            if field > 7:
                return f"{where} too many `:' in IPv6 address: {address:.100}"
            position += 1
            length = 0
            if after == ":":
                if null_field > 0:
                    return f"{where} too many `::' in IPv6 address: {address:.100}"
                null_field = field
            continue
        match = _HEX.match(address, position)
        length = match.end() - position if match else 0
        if length > 4:
            return f"{where} malformed IPv6 address: {address:.100}"
        if length == 0:
            octet = c.encode("utf-8", "surrogateescape")[0]
            return f"{where} invalid character {octet}(decimal) in IPv6 address: {address:.100}"
        position += length


def valid_hostaddr(address: str) -> bool:
    """Whether `address` is a numerical IPv4 or IPv6 address, bare."""
    if not address:
        return False
    return not (ipv6_complaint(address) if ":" in address else ipv4_complaint(address))


def mailhost_address(text: str) -> tuple[str, str]:
    """The bare address of RFC 5321 address text (``1.2.3.4``, ``IPv6:::1``) and "", or "" and the complaint."""
    if text[:5].lower() == "ipv6:":
        bare = text[5:]
        complaint = ipv6_complaint(bare)
    else:
        bare = text
        complaint = ipv4_complaint(bare)
    return ("", complaint) if complaint else (bare, "")


def valid_mailhost_literal(text: str) -> bool:
    """Whether `text` is ``[address]`` as RFC 5321 writes it."""
    if not text.startswith("[") or text.find("]") != len(text) - 1:
        return False
    inner = text[1:-1]
    return len(inner) <= MAX_LITERAL and not mailhost_address(inner)[1]
