"""discard(8): throws mail away, and says so: every recipient is "sent", with the text that the destination is.

The text may begin with an enhanced status code of class 2; without one the status is 2.0.0.
"""

from postfixpy.services.agent import DeliveryAgent, Job, reject
from postfixpy.services.error import destination_status, refuse_words


class Discard(DeliveryAgent):
    """The discard service."""

    async def deliver(self, job: Job) -> int:
        """See `DeliveryAgent`."""
        refuse_words(self.context.words)
        return await reject(job, "sent", destination_status(job, "2.0.0"))
