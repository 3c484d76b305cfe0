"""A name server for tests: answers from a few lines of text, over UDP and TCP, on a loopback address.

    python -m postfixpy.dns.testing 127.0.0.53 53 < zone

The zone is the one of scenarios (postfixpy.dns.zone).
"""

import asyncio
import struct
import sys
from collections.abc import Sequence

import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdata
import dns.rdataclass
import dns.rdatatype
import dns.rrset

from . import zone


class ZoneServer:
    """Answers by a list of records."""

    def __init__(self, lines: Sequence[str]) -> None:
        self.records = zone.parse(lines)

    def answer(self, wire: bytes) -> bytes | None:
        """The reply to a query; None for no reply."""
        query = dns.message.from_wire(wire)
        reply = dns.message.make_response(query)
        reply.flags |= dns.flags.RA
        question = query.question[0]
        wanted = dns.rdatatype.to_text(question.rdtype)
        records = self.records.get(question.name.to_text().rstrip(".").lower())
        if records is None:
            reply.set_rcode(dns.rcode.NXDOMAIN)
            return reply.to_wire()
        found = [record for record in records if record.answers(wanted)]
        for record in found:
            if record.data == "TIMEOUT":
                return None
            if record.data in zone.CODES:
                reply.set_rcode(dns.rcode.from_text(record.data))
            else:
                reply.answer.append(dns.rrset.from_rdata(question.name, 3600, _rdata(record)))
        if found and all(record.validated for record in found) and query.ednsflags & dns.flags.DO:
            reply.flags |= dns.flags.AD
        return reply.to_wire()


def _rdata(record: zone.ZoneRecord) -> dns.rdata.Rdata:
    if record.data.startswith("\\#"):
        data = bytes.fromhex("".join(record.data.split()[2:]))
        return dns.rdata.GenericRdata(dns.rdataclass.IN, dns.rdatatype.from_text(record.kind), data)
    return dns.rdata.from_text("IN", record.kind, record.data, origin=dns.name.root, relativize=False)


class _Datagrams(asyncio.DatagramProtocol):
    def __init__(self, zone: ZoneServer) -> None:
        self.zone = zone

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, addr: object) -> None:
        reply = self.zone.answer(data)
        if reply is not None:
            if len(reply) > 512 and b"\0\0\x29" not in data:
                reply = reply[:2] + bytes([reply[2] | 2]) + reply[3:12]  # truncated: ask over TCP
                reply += data[12:] if len(data) < 500 else b""
            self.transport.sendto(reply, addr)  # type: ignore[attr-defined]  # a datagram transport


async def serve(zone: ZoneServer, address: str, port: int) -> tuple[asyncio.DatagramTransport, asyncio.Server]:
    """Start serving; close both results to stop."""

    async def stream(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            (size,) = struct.unpack("!H", await reader.readexactly(2))
            reply = zone.answer(await reader.readexactly(size))
            if reply is not None:
                writer.write(struct.pack("!H", len(reply)) + reply)
        except asyncio.IncompleteReadError:
            pass
        writer.close()

    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(lambda: _Datagrams(zone), local_addr=(address, port))
    port = transport.get_extra_info("sockname")[1]
    server = await asyncio.start_server(stream, address, port)
    return transport, server


async def _main() -> None:
    address, port = sys.argv[1], int(sys.argv[2])
    await serve(ZoneServer(sys.stdin.read().splitlines()), address, port)
    print("ready", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_main())
