"""Fuzz targets of the client and of what it reads: replies, EHLO, MIME, address headers, queue files, DNS.

    python tools/fuzz_client.py [SECONDS [SEED [TARGET...]]]

Each target's docstring is its invariant. tools/fuzz_session.py has whole conversations.
"""

import io
import random
import struct
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fuzz

from postfixpy import config, log
from postfixpy.dns import message
from postfixpy.mail.addresses import addresses, header_text, parse_addresses, quote_822_local, unquote_822_local
from postfixpy.mail.delivery import DeliveryRequest, MessageStats
from postfixpy.mail.dsn import valid_status
from postfixpy.mail.mime import BodyEvent, EndOfBody, EndOfHeaders, ErrorEvent, HeaderEvent, MimeMachine
from postfixpy.mail.records import Kind, RecordError, RecordFile, RecordParser, encode_pointer, encode_record
from postfixpy.smtp import session as feature
from postfixpy.smtp.content import ListSource
from postfixpy.smtp.delivery import Delivery
from postfixpy.smtp.effects import Read, Run, StreamError, Write
from postfixpy.smtp.handshake import find_keywords
from postfixpy.smtp.memory import Clock
from postfixpy.smtp.policy import Level, Policy
from postfixpy.smtp.reply import Reply
from postfixpy.smtp.session import Session
from postfixpy.smtp.settings import Settings
from postfixpy.smtp.stream import Stream

# MIME

MIME_SEEDS = [
    b"Subject: x\n\nbody\n",
    b"Content-Type: multipart/mixed; boundary=a\n\n--a\nContent-Type: message/rfc822\n\nX: y\n\nz\n--a--\n",
    b'Content-Type: multipart/digest; boundary="b c"; boundary=d\nContent-Transfer-Encoding: 8bit\n\n--d\n\nA: b\n\xe9',
    b'Content-Type: (comment (nested)) text / plain ; name="a\\"b"\nContent-Transfer-Encoding: binary\n\n=\t \n',
]
MIME_TOKENS = [
    b"--a", b"--a--", b"\n", b"\n\n", b"\r\n", b":", b";", b'"', b"\\", b"(", b")", b" ", b"\t", b"\0", b"\xff", b"=",
    b"boundary=", b"Content-Type: ", b"Content-Transfer-Encoding: ", b"multipart/mixed", b"message/rfc822", b"8bit",
]  # fmt: skip


def text_records(data: bytes) -> list[tuple[str, bytes]]:
    """`data` as text records of at most 100 bytes."""
    out = []
    *lines, last = data.split(b"\n")
    for line in lines:
        while len(line) >= 100:
            out.append(("L", line[:100]))
            line = line[100:]
        out.append(("N", line))
    return [*out, ("L", last)] if last else out


def mime(data: bytes) -> None:
    """No exception; events in order; one end of headers; without conversion the text that went in comes out; `plain`
    text passes unseen; no problem is told twice."""
    options = random.Random(data).randrange(256)
    machine = MimeMachine(options, header_limit=1000, boundary_limit=70, nesting_limit=5)
    events = []
    for kind, text in text_records(data):
        if machine.plain(text):
            passed = list(machine.feed(kind, text))
            assert [event.text for event in passed if isinstance(event, BodyEvent)] == [text]
            assert len(passed) == 1
            events += passed
        else:
            events += machine.feed(kind, text)
    events += machine.finish()
    assert sum(isinstance(event, EndOfHeaders) for event in events) == 1
    assert [index for index, event in enumerate(events) if isinstance(event, EndOfBody)] == [len(events) - 1]
    problems = [event.problem for event in events if isinstance(event, ErrorEvent)]
    assert len(problems) == len(set(problems))
    body = b"".join(event.text for event in events if isinstance(event, BodyEvent | HeaderEvent))
    if not options & 64 and len(data) < 900 and b"\0" not in data:
        wanted = data.translate(None, b"\n \t")
        assert body.translate(None, b"\n \t") == wanted


# Replies and EHLO

REPLY_SEEDS = [
    b"220 server.example ESMTP\r\n250-server.example\r\n250-PIPELINING\r\n250-SIZE 1000\r\n250 8BITMIME\r\n",
    b"250-a\r\n250-XFORWARD NAME ADDR\r\n250-AUTH=PLAIN LOGIN\r\n250 DSN\r\n550-5.7.1 no\r\n550 5.7.1 never\r\n",
    b"354 go\r\ngarbage\r\n\r\n250 2.0.0 " + b"long " * 500 + b"\r\n",
]
REPLY_TOKENS = [
    b"\r\n", b"\n", b"\r", b"250 ", b"250-", b"550 5.1.1 ", b"2.0.0", b"\0", b"\xff", "é".encode(), b"x" * 2050,
    b"SIZE 99999999999999999999", b"SIZE", b"PIPELINING", b"=", b"\t", b"STARTTLS", b"-", b" ",
]  # fmt: skip


def make_client() -> Settings:
    with tempfile.TemporaryDirectory() as directory:
        (Path(directory) / "main.cf").write_text("myhostname = client.example\nsmtp_discard_ehlo_keywords = dsn\n")
        return Settings(config.load(directory).view(process_name="smtp"), interfaces=["127.0.0.1"])


CLIENT = make_client()


def drive(generator: Run[Any], pieces: Iterator[bytes]) -> Any:
    """The result of a generator that reads `pieces`. Raises StreamError at their end."""
    try:
        effect = next(generator)
        while True:
            if isinstance(effect, Read):
                effect = generator.send(next(pieces, b""))
            elif isinstance(effect, Write):
                effect = generator.send(None)
            else:
                raise AssertionError(effect)
    except StopIteration as stop:
        return stop.value


def replies(data: bytes, pieces: list[bytes]) -> tuple[list[Reply], Delivery, Session]:
    clock = Clock()
    stats = MessageStats(0, 0, 0)
    request = DeliveryRequest(0, "active", "X", 0, 1, "[127.0.0.11]", "7bit", 0, "", stats=stats, recipients=[])
    delivery = Delivery(CLIENT, request, ListSource([]), clock)
    session = Session(CLIENT, Stream(None, clock), "X", "h", "127.0.0.11", 25, Policy(Level.NONE))
    session.stream.set_limit(10.0)
    delivery.session = session
    found = []
    source = iter(pieces)
    try:
        while True:
            found.append(drive(session.reply(), source))
    except StreamError:
        return found, delivery, session


def server_replies(data: bytes) -> None:
    """Any bytes, in any pieces, are replies and then a lost connection, nothing else; the replies do not depend on the
    pieces; their text is printable and bounded, their status is one. As the answer to EHLO a reply has only known
    features, a size limit in range, and nothing of what is to be discarded."""
    chance = random.Random(data)
    pieces, position = [], 0
    while position < len(data):
        size = chance.randrange(1, 200)
        pieces.append(data[position : position + size])
        position += size
    found, _, _ = replies(data, pieces)
    whole, delivery, session = replies(data, [data])
    assert [(r.code, r.text, r.status) for r in found] == [(r.code, r.text, r.status) for r in whole]
    for reply in whole:
        assert 0 <= reply.code <= 999
        assert len(reply.text) < 2 * 2048 + 10
        assert reply.line.isprintable() or any(c > "\x7f" for c in reply.line)
        assert valid_status(reply.status), reply.status
        session.features = session.size_limit = 0
        drive(find_keywords(delivery, session, reply), iter(()))
        assert not session.features & ~((1 << 24) - 1)
        assert not session.has(feature.DSN)
        assert 0 <= session.size_limit < 1 << 63


# Address headers

ADDRESS_SEEDS = [
    b'"A B" <a.b@x.example>, friends: one@x.example, two;, (comment) c@[192.0.2.1]',
    b'"a\\"b c"@x.example, <@route,@two:user@x.example>',
    b"a b c, x@y@z, <>, :;, <<a>>",
]
ADDRESS_TOKENS = [
    b",",
    b";",
    b":",
    b"<",
    b">",
    b"@",
    b'"',
    b"\\",
    b"(",
    b")",
    b"[",
    b"]",
    b" ",
    b"\n ",
    b"a",
    b".",
    b"\xc3\xa9",
]


def address_headers(data: bytes) -> None:
    """Any text is tokens, and can be written and read again, with as many addresses if it has no quotes, brackets or
    comments; an address is the same after quoting and unquoting."""
    text = data.decode("utf-8", "surrogateescape").replace("\0", "")
    tokens = parse_addresses(text)
    found = [token.external for token in addresses(tokens)]
    written = header_text(tokens)
    again = parse_addresses(written)
    if not set(text) & set('"\\[]()<>'):
        assert len(addresses(again)) == len(found), (written, found)
    for external in found:
        internal = unquote_822_local(external)
        assert unquote_822_local(quote_822_local(internal)) == internal, internal


# Queue files

MESSAGE = b"".join(
    (
        encode_record(Kind.SIZE, b"%15d %15d %15d %15d %15d %15d" % (100, 200, 1, 0, 20, 0)),
        encode_record(Kind.TIME, b"1000000000 5"),
        encode_record(Kind.FROM, b"s@client.example"),
        encode_record(Kind.RECIPIENT, b"r@server.example"),
        encode_pointer(0),
        encode_record(Kind.MESSAGE, b""),
        encode_record(Kind.NORMAL, b"Subject: x"),
        encode_record(Kind.CONTINUED, b"y" * 300),
        encode_record(Kind.EXTRACTED, b""),
        encode_record(Kind.END, b""),
    )
)
RECORD_TOKENS = [
    b"p\x0f              0",
    b"p\x0f             10",
    b"N\x03abc",
    b"\x80",
    b"\xff\xff\xff",
    b"E\0",
    b"X\0",
    b"L",
]


def of_file(data: bytes, *, follow: bool) -> tuple[list[tuple[str, bytes]], str]:
    reader = RecordFile(io.BytesIO(data), "f", follow_pointers=follow, skip_padding=False, seek_end=False)
    found: list[tuple[str, bytes]] = []
    try:
        while batch := reader.batch():
            found += [(kind, payload) for kind, payload, _ in batch]
            assert len(found) < 200_000
    except RecordError as error:
        return found, str(error)
    return found, ""


def queue_file(data: bytes) -> None:
    """Any bytes are records and then their end or a RecordError, in bounded time, whatever the pointers; the reader of
    streams, fed in pieces, finds what the reader of files finds that does not follow pointers; what was read is what
    was written."""
    chance = random.Random(data)
    of_file(data, follow=True)
    found, problem = of_file(data, follow=False)
    parser = RecordParser("f")
    parsed: list[tuple[str, bytes]] = []
    position = 0
    why = ""
    try:
        while position < len(data):
            size = chance.randrange(1, 100)
            parser.feed(data[position : position + size])
            parsed += parser
            position += size
        parser.end()
    except RecordError as error:
        why = str(error)
    assert parsed == found, (parsed, found)
    assert bool(problem) == bool(why), (problem, why)
    again = RecordParser("f")
    again.feed(b"".join(encode_record(kind, payload) for kind, payload in parsed))
    assert list(again) == parsed


# DNS

QUESTION = message.encode_query(7, "server.example", 15, dnssec=True)
DNS_REPLY = (
    struct.pack("!HHHHHH", 7, 0x8180, 1, 3, 0, 0)
    + message.encode_name("server.example")
    + b"\0\x0f\0\1"
    + b"\xc0\x0c\0\x0f\0\1\0\0\x0e\x10\0\x06\0\x0a\1a\xc0\x0c"
    + b"\xc0\x0c\0\5\0\1\0\0\x0e\x10\0\4\1b\xc0\x0c"
    + b"\xc0\x0c\0\1\0\1\0\0\x0e\x10\0\4\x7f\0\0\1"
)
DNS_TOKENS = [
    b"\xc0\x0c",
    b"\xc0\x00",
    b"\xff\xff",
    b"\0\0",
    b"\0\x10",
    b"\0\x21",
    b"\1a",
    b"\x3f",
    b"\0\x1c",
    b"\0\x34",
]


def dns_reply(data: bytes) -> None:
    """Any bytes are a reply or Malformed; no more answers than bytes; names are bounded."""
    try:
        reply = message.decode(data)
    except message.Malformed:
        return
    assert len(reply.answers) <= len(data)
    for answer in reply.answers:
        assert len(answer.name) <= 4 * 255


if __name__ == "__main__":
    log.set_sink(lambda severity, text: None)
    targets = [
        fuzz.Target(mime, MIME_SEEDS, MIME_TOKENS),
        fuzz.Target(server_replies, REPLY_SEEDS, REPLY_TOKENS),
        fuzz.Target(address_headers, ADDRESS_SEEDS, ADDRESS_TOKENS),
        fuzz.Target(queue_file, [MESSAGE, MESSAGE[50:]], RECORD_TOKENS),
        fuzz.Target(dns_reply, [QUESTION, DNS_REPLY], DNS_TOKENS),
    ]
    sys.exit(fuzz.main(targets))
