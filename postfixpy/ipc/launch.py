"""How Python is told to run one of our programs: ``python -I .../postfixpy/__main__.py NAME [arguments]``.

-I keeps the environment, the user's site directory and the working directory (the queue directory, which the mail owner
may write) out of the module search path. A checkout that is not installed finds itself (postfixpy/__main__.py).
"""

import os
import sys

SCRIPT = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "__main__.py")


def command_line(name: str) -> list[str]:
    """The words that run our program `name`, for exec: absolute interpreter first."""
    return [sys.executable, "-I", SCRIPT, name]
