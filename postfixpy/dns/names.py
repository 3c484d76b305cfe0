"""Host names and network addresses as Postfix accepts them (valid_hostname(3), midna_domain(3)).

What a host name may be is in postfixpy.config.hostname. A name that is not ASCII is valid when its IDNA2008/UTS#46 form
is (`smtputf8_enable`).
"""

import socket

from postfixpy.config.hostname import hostname_problem as hostname_problem


def valid_hostname(name: str, *, wildcard: bool = False, utf8: bool = False) -> bool:
    """Whether `name` is a valid host name; with `utf8` also in its U-label form."""
    if utf8 and not name.isascii():
        name = to_ascii(name) or ""
    return not hostname_problem(name, wildcard=wildcard)


def family_of(address: str) -> int:
    """4 or 6 for a numeric address in the usual form, 0 for anything else."""
    for family, number in ((socket.AF_INET, 4), (socket.AF_INET6, 6)):
        try:
            socket.inet_pton(family, address)
        except (OSError, ValueError):
            continue
        return number
    return 0


def to_ascii(name: str) -> str | None:
    """The A-label form of a domain name (UTS#46, nontransitional); None when there is none."""
    if name.isascii():
        return name.lower()
    from postfixpy.config.domain import domain_to_ascii

    return domain_to_ascii(name)[0] or None
