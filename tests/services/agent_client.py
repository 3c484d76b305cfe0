"""The queue manager's side of one delivery, for tests of delivery agents."""

import asyncio

from postfixpy.ipc import delivery
from postfixpy.ipc.attributes import parse
from postfixpy.ipc.channel import Channel
from postfixpy.ipc.message import announcement
from postfixpy.ipc.service import Context
from postfixpy.mail.delivery import DeliveryRequest, MessageStats, Recipient
from postfixpy.mail.queue import Queue
from postfixpy.mail.records import RecordFile, encode_record

S = 1_000_000
T = 1_700_000_000 * S


def queue_message(*addresses, queue="active"):
    """A complete message for these recipients in the working directory's queue, and a request to deliver it."""
    with Queue("").create(queue, now=T) as file:
        file.write(encode_record("S", b"sender@example.org"))
        recipients = []
        for address in addresses:
            recipients.append(Recipient(address, "", file.tell(), "", 0))
            file.write(encode_record("R", address.encode()))
        file.write(encode_record("M", b"") + encode_record("N", b"Subject: hi") + encode_record("X", b"") + b"E\0")
        file.commit()
    stats = MessageStats(T, T)
    return DeliveryRequest(
        1, queue, file.id, 0, 0, "example.com", "", 0, "sender@example.org", stats=stats, recipients=recipients
    )


def kinds(request):
    """The record types of the recipients in the queue file: "R" to do, "D" done."""
    with Queue("").open(request.queue_name, request.queue_id) as file:
        return "".join(record.kind for record in RecordFile(file, file.path) if record.kind in "RD")


async def serve(agent, data, *, hang_up=False, count=2):
    """Connect to `agent`, send `data`, and read until it hangs up or has sent `count` attribute lists: these lists."""
    served = asyncio.get_running_loop().create_future()

    class Server(Channel):
        def connection_made(self, transport):
            super().connection_made(transport)
            asyncio.get_running_loop().create_task(self.work())

        async def work(self):
            try:
                self.write(announcement(agent.protocol, self.release))
                await agent.serve(self)
                served.set_result(None)
            except Exception as error:
                served.set_exception(error)
            finally:
                self.close()
                await self.wait_closed()

    server = await asyncio.get_running_loop().create_unix_server(lambda: Server("unix.agent"), "private/agent")
    reader, writer = await asyncio.open_unix_connection("private/agent")
    writer.write(data)
    lists = []
    buffer = b""
    if hang_up:
        writer.write_eof()
    while True:
        while (parsed := parse(buffer)) is not None:
            lists.append(parsed[0])
            buffer = buffer[parsed[1] :]
        if len(lists) >= count:
            break
        more = await reader.read(65536)
        if not more:
            break
        buffer += more
    writer.close()
    await writer.wait_closed()
    server.close()
    await served
    return lists


def deliver(system, factory, request, *, service="agent", words=(), release=None, **options):
    """Let an agent deliver `request`: (hop status or None, status)."""

    async def main():
        view = system.view(process_name=service, service_name=service)
        agent = factory(Context(None, view, service, service, words=list(words)))
        await agent.pre_jail()
        await agent.start()
        data = delivery.pack(request) if release is None else delivery.pack(request, release)
        try:
            return await serve(agent, data, **options)
        finally:
            await agent.stop()

    lists = system.run(main())
    assert lists[0] == [("protocol", "delivery_request_protocol")]
    if len(lists) == 1:
        return None
    result = delivery.Result.parse(lists[1])
    return result.hop(), result.status
