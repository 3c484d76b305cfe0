"""Talking to a delivery agent: connect, wait until it is ready, hand it one request, read what came of it.

An agent announces itself when it accepts the connection; until then the connection waits in its socket's queue, which
is how a busy agent slows the queue manager down (spec/smtp-client.md 1.1, 15.5, 15.6).
"""

import asyncio
from dataclasses import dataclass, field

from postfixpy import log
from postfixpy.ipc.attributes import ProtocolError
from postfixpy.ipc.channel import Channel, connect
from postfixpy.ipc.delivery import Result, pack
from postfixpy.ipc.message import CURRENT, Release
from postfixpy.mail.delivery import DeliveryRequest
from postfixpy.mail.dsn import DSN

from .model import Entry

PROTOCOL = "delivery_request_protocol"


@dataclass(eq=False, slots=True)
class Agent:
    """A connection to an agent that is ready. `entry` is what it gets to deliver; None: nothing after all."""

    channel: Channel
    entry: "asyncio.Future[Entry | None]" = field(default_factory=lambda: asyncio.get_running_loop().create_future())


async def find_agent(transport: str, timeout: float, release: Release = CURRENT) -> Agent | None:
    """An agent of `transport` that is ready; None, after a warning, when there is none.

    `timeout` (seconds) is how long an agent may stay busy or silent; `release` is its Postfix release.
    """
    path = f"private/{transport}"
    try:
        channel = await connect(path, timeout=timeout, release=release, connect_timeout=timeout)
    except OSError as error:
        log.warning(f"connect to transport {path}: {error.strerror}")
        return None
    channel.peer = f"{path} socket"
    try:
        await channel.read_announcement(PROTOCOL)
    except (ProtocolError, OSError) as error:
        log.warning(str(error))
        log.warning(f"{channel.peer}: malformed response")
        channel.close()
        return None
    except BaseException:
        channel.close()
        raise
    return Agent(channel)


@dataclass(frozen=True, slots=True)
class Answer:
    """What an agent said: all recipients `done` or not, the hop status; `crashed`: nothing that makes sense."""

    done: bool
    hop: DSN | None
    crashed: bool = False


async def deliver(agent: Agent, request: DeliveryRequest, release: Release = CURRENT) -> Answer:
    """Have `agent` deliver, and hang up."""
    channel = agent.channel
    try:
        channel.write(pack(request, release))
        await channel.drain()
        result = await channel.read(Result)
    except (ProtocolError, OSError) as error:
        log.warning(str(error))
        log.warning(f"{channel.peer}: malformed response")
        return Answer(False, None, crashed=True)
    finally:
        channel.close()
    return Answer(result.status == 0, result.hop())
