"""Session traces: what was said in a session, with times, as one line of JSON (our own; Postfix has debug_peer_list).

With ``postfixpy_session_trace_directory = DIR`` in main.cf (or ``-o`` in master.cf) each session adds a line to
``DIR/SERVICE.jsonl``; the directory must exist and be writable for mail_owner, and is relative to the queue directory.
``postfixpy trace FILE`` shows it. Empty, the default: nothing is kept. A record:

    {"time": 1764276000.5, "queue_id": "3A1B2C3D4E", "program": "smtp", "server": "h[192.0.2.1]:25", "use": 1,
     "events": [[0.0, "connected", ""], [0.01, "<", "220 h ESMTP"], [0.01, ">", "EHLO me"], ...]}

Events are seconds since `time`, a kind, and a text: ``>`` a command, ``<`` a line of a reply (as transcripts have them:
without credentials), ``tls`` the beginning of a handshake and what came of it, ``data`` how much content went out,
``result`` of a recipient, ``closed`` or ``kept`` at the end.
At most `MAX_EVENTS` are kept. Content is not.
"""

import json
import os
from typing import Any

from postfixpy import log

PARAMETER = "postfixpy_session_trace_directory"
MAX_EVENTS = 5000

Event = tuple[float, str, str]


def append(directory: str, name: str, record: dict[str, Any]) -> None:
    """Add a record to a file; a warning when that does not work."""
    path = os.path.join(directory, f"{name}.jsonl")
    line = json.dumps(record, ensure_ascii=True) + "\n"
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            os.write(fd, line.encode("ascii"))
        finally:
            os.close(fd)
    except OSError as error:
        log.warning(f"session trace {path}: {error.strerror}")
