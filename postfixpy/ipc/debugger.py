"""debugger_command: what the administrator wants to run on a process that was started with -D (debug_process(3))."""

import os
from typing import TYPE_CHECKING

from postfixpy import log
from postfixpy.errors import FatalError

if TYPE_CHECKING:
    from postfixpy.config import View


def run_debugger(view: "View") -> None:
    """Run debugger_command, which is a shell command by definition, and wait for it. Raises FatalError."""
    if not view.raw("debugger_command"):
        raise FatalError("no debugger_command variable set up")
    command = view.debugger_command
    log.info(f"running: {command}")
    os.waitpid(os.posix_spawn("/bin/sh", ["sh", "-c", command], os.environ), 0)
