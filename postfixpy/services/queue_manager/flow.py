"""in_flow_delay: tokens in a pipe that cleanup takes, so that mail does not come in much faster than it is looked at.

The queue manager puts a token back for each new message that it takes from the incoming queue, and fills the pipe up to
the process limit when nothing is waiting there. Source: mail_flow(3), postconf(5) in_flow_delay.
"""

import os
import stat

from postfixpy.ipc.master_status import FLOW_READ, FLOW_WRITE, flow_count, flow_get, flow_put


class Flow:
    """The queue manager's side of the pipe. `limit` is default_process_limit; 0 turns it off."""

    def __init__(self, limit: int, read_fd: int = FLOW_READ, write_fd: int = FLOW_WRITE) -> None:
        self.limit = limit
        self.read_fd, self.write_fd = read_fd, write_fd

    @classmethod
    def inherited(cls, in_flow_delay: int, process_limit: int) -> "Flow":
        """The pipe that master(8) passes on; turned off without a delay, or when no master has started us."""
        ours = "GENERATION" in os.environ and _is_pipe(FLOW_READ) and _is_pipe(FLOW_WRITE)
        return cls(process_limit if ours and in_flow_delay > 0 else 0)

    def update(self, *, took_new: bool, idle: bool) -> None:
        """After a step: `took_new`: a message came from the incoming queue; `idle`: that queue is not being scanned."""
        if self.limit <= 0:
            return
        try:
            tokens = flow_count(self.read_fd)
        except OSError:
            return
        if tokens > self.limit:
            flow_get(tokens - self.limit, self.read_fd)
        elif tokens < self.limit and took_new:
            flow_put(1, self.write_fd)
        elif tokens < self.limit and idle:
            flow_put(self.limit - tokens, self.write_fd)


def _is_pipe(fd: int) -> bool:
    try:
        return stat.S_ISFIFO(os.fstat(fd).st_mode)
    except OSError:
        return False
