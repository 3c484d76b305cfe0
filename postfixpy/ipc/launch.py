"""The file that a Python interpreter is given to run one of our programs: ``python -I launch.py NAME [arguments]``.

-I keeps the environment, the user's site directory and the working directory (the queue directory, which the mail owner
may write) out of the module search path. A checkout that is not installed is found next to this file.
"""

import os
import sys


def command_line(name: str) -> list[str]:
    """The words that run our program `name`, for exec: absolute interpreter first."""
    return [sys.executable, "-I", os.path.abspath(__file__), name]


if __name__ == "__main__":
    sys.path.append(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
    from postfixpy.__main__ import run

    sys.exit(run(sys.argv[1], sys.argv[1:]))
