"""Names and addresses in memory, for `memory`: a DNS exchange of resource records in text, and /etc/hosts."""

from collections.abc import Sequence

from postfixpy.dns import message, zone
from postfixpy.dns.lookup import NoReply
from postfixpy.dns.record import TYPE_NAMES, type_name

from . import effects


class Zone:
    """A DNS exchange of resource records in text (postfixpy.dns.zone). `hosts` are lines of /etc/hosts."""

    def __init__(self, lines: Sequence[str], hosts: Sequence[str] = ()) -> None:
        self.records = zone.parse(lines)
        self.hosts = [line.split() for line in hosts]

    async def __call__(self, name: str, rtype: int, dnssec: bool) -> message.Reply:
        """See `postfixpy.dns.lookup.Exchange`."""
        found = message.Reply(0, message.NOERROR, False, False, (name, rtype))
        records = self.records.get(name.rstrip(".").lower())
        if records is None:
            found.rcode = message.NXDOMAIN
            return found
        wanted = [record for record in records if record.answers(type_name(rtype))]
        for record in wanted:
            if record.data == "TIMEOUT":
                raise NoReply(name)
            if record.data in zone.CODES:
                found.rcode = getattr(message, record.data)
                return found
            found.answers.append(_raw(name, record))
        found.authentic = dnssec and bool(wanted) and all(record.validated for record in wanted)
        return found

    def native(self, name: str, family: int) -> list[str]:
        """The addresses by getaddrinfo(3): of /etc/hosts, else of the zone, IPv6 first. Raises NativeError."""
        found = [words[0] for words in self.hosts if name in words[1:]]
        records = self.records.get(name.rstrip(".").lower(), [])
        found = found or [record.data for record in records if record.kind in ("A", "AAAA")]
        found = [address for address in found if not family or (":" in address) == (family == 6)]
        if not found:
            raise effects.NativeError("Name or service not known", False, True)
        return sorted(found, key=lambda address: ":" not in address)


def _raw(name: str, record: zone.ZoneRecord) -> message.Raw:
    data = record.data
    numbers: tuple[int, ...] = ()
    words = data.split()
    rtype = next(number for number, text in TYPE_NAMES.items() if text == record.kind)
    if data.startswith("\\#"):
        data = message.tlsa_text(bytes.fromhex("".join(words[2:])))
    elif record.kind == "TLSA":
        data = " ".join([*words[:3], "".join(words[3:]).lower()])
    elif record.kind == "TXT":
        data = data.removeprefix('"').removesuffix('"')
    elif record.kind in ("MX", "SRV"):
        numbers = tuple(int(word) for word in words[:-1])
        data = words[-1]
    if record.kind in ("MX", "SRV", "CNAME", "NS"):
        data = data.rstrip(".")
    return message.Raw(name, rtype, 1, 3600, data, numbers)
