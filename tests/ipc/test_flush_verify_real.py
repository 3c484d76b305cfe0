"""The clients of flush(8) and verify(8) against the real services."""

import asyncio

import pytest

from postfixpy.config import load
from postfixpy.ipc import flush, verify
from tests.services.queue_manager.real_system import RealSystem

pytestmark = pytest.mark.real


def test_the_real_services_answer(monkeypatch):
    with RealSystem(ours=False, fast_flush_domains="example.com") as real:
        monkeypatch.chdir(real.queue)
        real.wait(lambda: (real.queue / "private" / "verify").exists(), "the socket of verify")
        view = load(str(real.config)).view()

        async def talk():
            client = verify.VerifyClient()
            try:
                told = await client.update("user@example.com", verify.UNDELIVERABLE, "host said: 550 no")
                known = await client.query("user@example.com")
                deliverable = await client.update("other@example.com", verify.DELIVERABLE, "250 ok")
                return told, known, deliverable, await client.query("other@example.com")
            finally:
                client.close()

        told, known, deliverable, other = asyncio.run(talk())
        assert (told, known) == (verify.OK, (verify.OK, verify.UNDELIVERABLE, "host said: 550 no"))
        assert (deliverable, other) == (verify.OK, (verify.OK, verify.DELIVERABLE, "250 ok"))

        async def flushing():
            client = flush.FlushClient.of(view)
            return (
                await client.add("example.com", "4C1E0D4B7C"),
                await client.add("example.org", "4C1E0D4B7C"),
                await client.send_site("example.com"),
                await client.send_file("4C1E0D4B7C"),
                await client.purge(),
                await flush.request("public/flush", flush.Add("add", "example.com", "../x")),
            )

        assert asyncio.run(flushing()) == (flush.OK, flush.DENY, flush.OK, flush.OK, flush.OK, flush.BAD)
        assert [line for line in real.log() if "fatal" in line or "malformed" in line] == []
