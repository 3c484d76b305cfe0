import asyncio

from postfixpy.ipc import verify
from postfixpy.ipc.attributes import encode
from postfixpy.ipc.verify import VerifyClient

from .mail_system import MailSystem, status


def test_update_and_query_on_one_connection(tmp_path):

    def answer(pairs):
        if dict(pairs)["request"] == "query":
            return encode([("status", 0), ("recipient_status", 2), ("reason", "no such user")])
        return encode([("status", -2)])

    async def talk():
        client = VerifyClient()
        first = await client.update("a@b", verify.UNDELIVERABLE, "no")
        channel = client._channel
        second = await client.query("a@b")
        assert client._channel is channel
        client.close()
        return first, second

    with MailSystem(tmp_path) as system:
        system.service("private/verify", verify.ANNOUNCEMENT, answer)
        assert system.run(talk()) == (verify.BAD, (0, verify.UNDELIVERABLE, "no such user"))
        assert system.requests("private/verify") == [
            {"request": "update", "address": "a@b", "recipient_status": "2", "reason": "no"},
            {"request": "query", "address": "a@b"},
        ]
        assert system.log == []


def test_a_request_is_repeated_until_it_is_answered(tmp_path):
    answers = [b"", b"", b"", encode([("status", 0)])]
    slept = []

    async def sleep(seconds):
        slept.append(seconds)

    with MailSystem(tmp_path) as system:
        system.service("private/verify", verify.ANNOUNCEMENT, lambda pairs: answers.pop(0))

        async def talk():
            client = VerifyClient(sleep=sleep)
            result = await client.update("a@b", verify.DELIVERABLE, "ok")
            client.close()
            return result

        assert system.run(talk()) == verify.OK
        assert slept == [1, 1, 1]
        problem = "premature end-of-input on private/verify while reading input attribute name"
        assert system.log == [f"warning: problem talking to service verify: {problem}"] * 2


def test_a_service_that_appears_later(tmp_path):
    with MailSystem(tmp_path) as system:

        async def talk():
            async def sleep(seconds):
                if not servers:
                    system.service("private/verify", verify.ANNOUNCEMENT, status(0))
                    path, hello, answer = system._services[0]
                    servers.append(await asyncio.start_unix_server(system._serve(path, hello, answer), path))

            servers = []
            client = VerifyClient(sleep=sleep)
            result = await client.update("a@b", 0, "ok")
            client.close()
            servers[0].close()
            return result

        assert system.run(talk()) == verify.OK
        assert system.log == []


def test_an_old_connection_is_made_again(tmp_path):
    now = 0.0

    async def talk():
        nonlocal now
        client = VerifyClient(ttl=1000, clock=lambda: now)
        await client.update("a@b", 0, "ok")
        first = client._channel
        now = 1000.0
        await client.update("a@b", 0, "ok")
        assert client._channel is not first
        client.close()

    with MailSystem(tmp_path) as system:
        system.service("private/verify", verify.ANNOUNCEMENT)
        system.run(talk())
        assert len(system.seen) == 2


def test_an_idle_connection_is_closed(tmp_path):
    async def talk():
        client = VerifyClient(idle=0)
        await client.update("a@b", 0, "ok")
        await asyncio.sleep(0.001)
        assert client._channel is None

    with MailSystem(tmp_path) as system:
        system.service("private/verify", verify.ANNOUNCEMENT)
        system.run(talk())
