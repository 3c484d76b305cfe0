"""showq(8): lists the queue for postqueue(1).

Anyone who may connect is sent the whole list at once; there is no request. A message is one attribute list that has its
properties and then its recipients; an empty list ends it all.

The attributes of a recipient depend on the release that the configuration is for: original_recipient and log_class are
sent since 3.11, and only then is the bounce log read.
"""

import asyncio
from collections.abc import Iterator

from postfixpy.ipc.attributes import ProtocolError, Value, encode, encode_long
from postfixpy.ipc.channel import Channel
from postfixpy.ipc.service import Service
from postfixpy.mail.listing import Lister, Message
from postfixpy.mail.queue import Queue
from postfixpy.services.error import refuse_words

PROTOCOL = "mail_queue_list_protocol"

_BLOCK = 1 << 16


def encode_message(message: Message, *, modern: bool = True) -> Iterator[bytes]:
    """The attribute list of one message in pieces; `modern`: as since 3.11."""
    head: list[tuple[str, Value]] = [
        ("queue_name", message.queue),
        ("queue_id", message.id),
        ("time", encode_long(message.arrival)),
        ("size", encode_long(message.size)),
        ("forced_expire", int(message.expire)),
        ("sender", message.sender),
    ]
    yield encode(head)[:-1]
    for recipient in message.recipients:
        pairs: list[tuple[str, Value]] = [("recipient", recipient.address), ("reason", recipient.reason)]
        if modern:
            pairs.insert(0, ("original_recipient", recipient.original))
            pairs.insert(2, ("log_class", recipient.log))
        yield encode(pairs)[:-1]
    yield b"\0"


class Showq(Service):
    """The showq service."""

    protocol = PROTOCOL

    async def serve(self, channel: Channel) -> None:
        """List the queue to one client; a client that hangs up is no error. Raises FatalError."""
        refuse_words(self.context.words)
        view = self.view
        queue = Queue("", view.hash_queue_names, view.hash_queue_depth)
        modern = view.release >= (3, 11)
        block = bytearray()
        try:
            for message in Lister.of(view, queue).messages():
                for piece in encode_message(message, modern=modern):
                    block += piece
                    if len(block) >= _BLOCK:
                        channel.write(bytes(block))
                        block.clear()
                        await channel.drain()
                await asyncio.sleep(0)  # others are served while a long queue is listed
            channel.write(bytes(block) + b"\0")
            await channel.drain()
        except (ProtocolError, TimeoutError):
            return
