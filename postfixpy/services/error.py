"""error(8): bounces every recipient, or as service ``retry`` defers it, with the text that the destination is.

The text may begin with an enhanced status code: ``error:5.1.1 no such user``. Without one the status is 5.0.0, for
``retry`` 4.0.0. The rows ``error`` and ``retry`` of master.cf are both this program.
"""

from postfixpy.errors import FatalError
from postfixpy.mail.dsn import DSN, split_text
from postfixpy.mail.outcome import Result
from postfixpy.services.agent import DeliveryAgent, Job, reject

_OUTCOMES: dict[str, tuple[Result, str]] = {"error": ("bounced", "5.0.0"), "retry": ("deferred", "4.0.0")}


class Error(DeliveryAgent):
    """The error and retry services."""

    async def deliver(self, job: Job) -> int:
        """See `DeliveryAgent`. Raises FatalError for another service name, as Postfix does."""
        refuse_words(self.context.words)
        service = self.context.service
        if service not in _OUTCOMES:
            raise FatalError(f"bad error service name: {service}")
        result, default = _OUTCOMES[service]
        return await reject(job, result, destination_status(job, default))


def destination_status(job: Job, default: str) -> DSN:
    """The status that the request's destination text stands for. Raises FatalError when it is empty."""
    if not job.request.nexthop:
        raise FatalError("empty nexthop hostname")
    status, text = split_text(job.request.nexthop, default)
    return DSN(status, reason=text)


def refuse_words(words: list[str]) -> None:
    """For services that take no arguments in master.cf. Raises FatalError."""
    if words:
        raise FatalError(f"unexpected command-line argument: {words[0]}")
