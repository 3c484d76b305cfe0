"""What the queue manager needs from its peers; tests pretend them."""

from typing import Protocol

from postfixpy.ipc.rewrite import Resolved
from postfixpy.mail.delivery import Recipient
from postfixpy.mail.dsn import DSN
from postfixpy.mail.queue import QueueFile

from .model import Message


class Resolver(Protocol):
    """postfixpy.ipc.rewrite.RewriteClient."""

    async def resolve(self, sender: str, address: str, *, verify: bool = False) -> Resolved: ...

    async def rewrite_internal(self, rule: str, address: str) -> str: ...


class Notifier(Protocol):
    """postfixpy.services.queue_manager.notices.Notices."""

    async def bounce(self, message: Message) -> bool: ...

    async def expire(self, message: Message) -> bool: ...

    async def warn(self, message: Message) -> bool: ...

    async def trace(self, message: Message) -> bool: ...

    async def defer(self, message: Message, recipients: list[Recipient], reason: DSN) -> bool: ...

    async def discard(self, message: Message, file: QueueFile, recipient: Recipient) -> bool: ...
