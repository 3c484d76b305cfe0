"""The ASCII form of an internationalised domain name, as Postfix makes it with ICU (midna_domain(3)).

UTS#46, nontransitional, with the checks that are on by default there: hyphens, lengths, leading combining marks, code
points, and what a label that begins with "xn--" decodes to. Bidi and joiner rules are not checked, and "_" is allowed.
The result must then be a valid host name.
"""

import unicodedata

import idna

from postfixpy.config.hostname import MAX_LABEL, hostname_problem

ERRORS = (
    *("EMPTY_LABEL", "LABEL_TOO_LONG", "DOMAIN_NAME_TOO_LONG", "LEADING_HYPHEN", "TRAILING_HYPHEN", "HYPHEN_3_4"),
    *("LEADING_COMBINING_MARK", "DISALLOWED", "PUNYCODE", "INVALID_ACE_LABEL"),
)
"""ICU's names of what can be wrong, in the order in which Postfix lists them."""

MAX_DOMAIN = 253


def domain_to_ascii(name: str) -> tuple[str, str]:
    """The A-label form of `name`, and "" or, with an empty form, what is wrong with it, in the words of the warning."""
    if not name.isascii() and any("\ud800" <= char <= "\udfff" for char in name):
        return "", "malformed UTF-8"
    errors: set[str] = set()
    labels = _mapped(name, errors).split(".")
    root = labels.pop() if len(labels) > 1 and not labels[-1] else None
    domain = ".".join(_label(label, errors) for label in labels)
    if len(domain) > MAX_DOMAIN:
        errors.add("DOMAIN_NAME_TOO_LONG")
    if root is not None:
        domain += "."
    if errors:
        return "", ",".join(f"UIDNA_ERROR_{error}" for error in ERRORS if error in errors)
    return ("", "malformed ASCII label(s)") if hostname_problem(domain) else (domain, "")


def _mapped(text: str, errors: set[str]) -> str:
    """`text` in lower case and in Normalisation Form C, characters mapped or dropped by UTS#46."""
    try:
        return idna.uts46_remap(text, std3_rules=False)
    except idna.IDNAError:
        errors.add("DISALLOWED")
        return text


def _label(label: str, errors: set[str]) -> str:
    """The A-label of a mapped label."""
    if not label:
        errors.add("EMPTY_LABEL")
        return label
    if label.startswith("xn--"):
        decoded = _decoded(label, errors)
        if not decoded:
            return label
        label = decoded
    elif label[2:4] == "--":
        errors.add("HYPHEN_3_4")
    if label.startswith("-"):
        errors.add("LEADING_HYPHEN")
    if label.endswith("-"):
        errors.add("TRAILING_HYPHEN")
    if unicodedata.category(label[0]).startswith("M"):
        errors.add("LEADING_COMBINING_MARK")
    encoded = label if label.isascii() else "xn--" + label.encode("punycode").decode("ascii")
    if len(encoded) > MAX_LABEL:
        errors.add("LABEL_TOO_LONG")
    return encoded


def _decoded(label: str, errors: set[str]) -> str:
    """The U-label of a label that begins with "xn--", which must be what it would be mapped to; "" for an error."""
    try:
        decoded = label[4:].encode("ascii").decode("punycode")
    except UnicodeError:
        errors.add("PUNYCODE")
        return ""
    found: set[str] = set()
    if decoded.isascii() or _mapped(decoded, found) != decoded or found:
        errors.add("INVALID_ACE_LABEL")
        return ""
    return decoded
