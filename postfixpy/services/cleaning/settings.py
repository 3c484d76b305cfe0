"""The parameters and tables of cleanup(8), read once for a process."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from postfixpy.errors import FatalError
from postfixpy.lookup.addresses import AddressContext, LocalDomains
from postfixpy.lookup.maps import Maps
from postfixpy.lookup.matching import StringList
from postfixpy.lookup.table import Flags
from postfixpy.mail.headers import HeaderTable
from postfixpy.services.trivial_rewrite import OwnAddresses

from .milters import milters_of

if TYPE_CHECKING:
    from postfixpy.config import View

ENVELOPE_SENDER, ENVELOPE_RECIPIENT, HEADER_SENDER, HEADER_RECIPIENT = 1, 2, 4, 8
"""Bits of address classes."""

_SENDERS = {"envelope_sender": ENVELOPE_SENDER, "header_sender": HEADER_SENDER}
_RECIPIENTS = {"envelope_recipient": ENVELOPE_RECIPIENT, "header_recipient": HEADER_RECIPIENT}
_EXTENSIONS = ("canonical", "virtual", "alias", "forward", "include", "generic")


def mask(parameter: str, names: Mapping[str, int], text: str) -> int:
    """The bits that the words of `text` name. Raises FatalError."""
    bits = 0
    for word in split(text):
        if word not in names:
            raise FatalError(f'unknown {parameter} value "{word}" in "{text}"')
        bits |= names[word]
    return bits


def split(text: str) -> list[str]:
    """The words of a list without table names."""
    return text.replace(",", " ").split()


def unescape(text: str) -> bytes:
    """Character-set parameters, with the escapes of C: \\a \\b \\f \\n \\r \\t \\v \\nnn \\\\ (unescape(3))."""
    data = text.encode("utf-8", "surrogateescape")
    out = bytearray()
    position = 0
    while position < len(data):
        char = data[position]
        position += 1
        if char != 0x5C:
            out.append(char)
            continue
        if position == len(data):
            break
        char = data[position]
        position += 1
        if 0x30 <= char <= 0x37:
            value = char - 0x30
            for _ in range(2):
                if position < len(data) and 0x30 <= data[position] <= 0x37:
                    value = value * 8 + data[position] - 0x30
                    position += 1
            out.append(value & 0xFF)
        else:
            out.append(_ESCAPES.get(char, char))
    return bytes(out)


_ESCAPES = {0x61: 7, 0x62: 8, 0x66: 12, 0x6E: 10, 0x72: 13, 0x74: 9, 0x76: 11}


class Settings:
    """What cleanup needs of a View. Opens the tables. Raises FatalError for bad values."""

    def __init__(self, view: "View") -> None:
        self.view = view
        self._maps: list[Maps] = []
        self.canonical = self._table("canonical_maps")
        self.sender_canonical = self._table("sender_canonical_maps")
        self.recipient_canonical = self._table("recipient_canonical_maps")
        self.virtual_alias = self._table("virtual_alias_maps")
        self.sender_bcc = self._table("sender_bcc_maps")
        self.recipient_bcc = self._table("recipient_bcc_maps")
        self.header_checks = self._table("header_checks", Flags.LOCK)
        self.mime_header_checks = self._table("mime_header_checks", Flags.LOCK)
        self.nested_header_checks = self._table("nested_header_checks", Flags.LOCK)
        self.body_checks = self._table("body_checks", Flags.LOCK)

        both = _SENDERS | _RECIPIENTS
        self.canonical_classes = mask("canonical_classes", both, view.canonical_classes)
        self.sender_canonical_classes = mask("canonical_classes", _SENDERS, view.sender_canonical_classes)
        self.recipient_canonical_classes = mask("canonical_classes", _RECIPIENTS, view.recipient_canonical_classes)
        self.masquerade_domains = split(view.masquerade_domains)
        self.masquerade_classes = mask("masquerade_classes", both, view.masquerade_classes)
        self.masquerade_exceptions = _exceptions(view)
        self.propagate = mask(
            "propagate_unmatched_extensions",
            {name: 1 << bit for bit, name in enumerate(_EXTENSIONS)},
            view.propagate_unmatched_extensions,
        )
        self.propagate_canonical = bool(self.propagate & 1)
        self.propagate_virtual = bool(self.propagate & 2)

        self.addresses = AddressContext(view, LocalDomains(view, OwnAddresses(view)))
        self.headers = HeaderTable(split(view.message_drop_headers))
        self.reject_characters = unescape(view.message_reject_characters)
        self.strip_characters = unescape(view.message_strip_characters)
        self.mask_stray = view.cleanup_replace_stray_cr_lf
        self.utf8 = view.smtputf8_enable
        self.obsolete_from = _choice(view, "header_from_format", ("standard", "obsolete")) == "obsolete"
        self.non_empty_eoh = _eoh(view)
        self.milters = milters_of(view)
        if view.disable_mime_input_processing and view.force_mime_input_conversion:
            raise FatalError(
                "do not specify both disable_mime_input_processing=yes and force_mime_input_conversion=yes"
            )

    def _table(self, name: str, flags: Flags = Flags.MAPS) -> Maps | None:
        text = self.view.text(name)
        if not text:
            return None
        maps = Maps(name, text, self.view, flags)
        self._maps.append(maps)
        return maps

    def changed(self) -> str | None:
        """The name of an open table whose file has changed."""
        tables = [table for maps in self._maps for table in maps.tables]
        for patterns in (self.masquerade_exceptions, self.addresses.local.list):
            if patterns is not None:
                tables += [pattern.table for pattern in patterns.patterns if pattern.table is not None]
        return next((f"{table.kind}:{table.label}" for table in tables if table.changed()), None)


def _exceptions(view: "View") -> StringList | None:
    if not view.masquerade_exceptions:
        return None
    return StringList("masquerade_exceptions", view.masquerade_exceptions, view)


def _choice(view: "View", name: str, allowed: tuple[str, ...]) -> str:
    value = str(getattr(view, name))
    if value.lower() not in allowed:
        raise FatalError(f'invalid setting: "{name} = {value}"')
    return value.lower()


def _eoh(view: "View") -> str:
    value = view.non_empty_end_of_header_action
    if value.lower() not in ("fix_quietly", "add_header", "reject"):
        raise FatalError(f"bad non_empty_end_of_header_action value: '{value}'")
    return value.lower()
