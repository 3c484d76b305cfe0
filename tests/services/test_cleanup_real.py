"""Our cleanup and Debian's, side by side: the same records in, the same queue file, log lines and verdict out.

Both ask the same real trivial-rewrite; ours works as the installed release. Why a Milter cannot be reached is for each
to say.
"""

import asyncio
import difflib
import os
import random
import re
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from postfixpy import config, log
from postfixpy.ipc.channel import connect
from postfixpy.ipc.cleanup import FLAG_AUTOUTF8, FLAGS_EXTERNAL, CleanupResult, Flags
from postfixpy.ipc.rewrite import RewriteClient
from postfixpy.ipc.service import Context
from postfixpy.services.cleanup import Cleanup

from .cleanup_harness import END, QUEUES, TIME, Harness, Outcome, Record, encode, envelope, message

pytestmark = pytest.mark.real

DAEMONS = Path("/usr/lib/postfix/sbin")
RELEASE = "3.7"

MAIN = """\
compatibility_level = 3.6
myhostname = mail.example.com
myorigin = example.com
mydestination = example.com
inet_interfaces = 127.0.0.1
maillog_file_prefixes = /tmp
syslog_name = x
alias_maps =
recipient_delimiter = +
in_flow_delay = 0
"""

OVERRIDES: dict[str, dict[str, str]] = {
    "plain": {},
    "maps": {
        "canonical_maps": "inline:{me@example.com=M.E@example.com,joe@example.com=j@other.example,@gone=@new.example}",
        "recipient_canonical_maps": "inline:{you@example.com=Y.O@example.com}",
        "virtual_alias_maps": "inline:{Y.O@example.com=y@x.example,{list@example.com=a,b,list2@example.com,a},"
        "list2@example.com=me,@old.example=@new.example,joe@example.com=joe@example.com}",
        "masquerade_domains": "!keep.example.com,example.com",
        "masquerade_exceptions": "root",
        "always_bcc": "archive",
        "sender_bcc_maps": "inline:{me@example.com=out}",
        "recipient_bcc_maps": "inline:{@x.example=in@x.example}",
        "propagate_unmatched_extensions": "canonical,virtual",
        "delay_warning_time": "1h",
    },
    "checks": {
        "header_checks": "pcre:/{dir}/header",
        "mime_header_checks": "pcre:/{dir}/mime",
        "nested_header_checks": "pcre:/{dir}/nested",
        "body_checks": "pcre:/{dir}/body",
        "strict_7bit_headers": "yes",
        "strict_mime_encoding_domain": "yes",
        "message_strip_characters": "\\\\7",
    },
    "remote": {
        "always_add_missing_headers": "yes",
        "remote_header_rewrite_domain": "remote.invalid",
        "enable_original_recipient": "no",
        "header_from_format": "obsolete",
        "undisclosed_recipients_header": "To: nobody:;",
        "message_drop_headers": "bcc,x-drop",
        "header_size_limit": "400",
        "smtputf8_enable": "no",
    },
    **{
        f"milter_{action}": {"non_smtpd_milters": milters, "milter_default_action": action}
        for action, milters in (
            ("accept", "unix:/no/such/milter"),
            ("reject", "unix:/no/such/milter"),
            ("tempfail", "{unix:/no/such/milter,default_action=accept},local:/no/such/milter"),
            ("quarantine", "unix:/no/such/milter"),
            ("odd", "unix:/no/such/milter,nowhere"),
            ("shutdown", "nowhere:x"),
        )
    },
}
TABLES = {
    "header": """\
/^Subject: reject/ REJECT go away
/^Subject: later/ REJECT 4.3.2 later
/^Subject: warn/ WARN hello
/^Subject: info/ INFO
/^Subject: replace/ REPLACE X-Subject: replaced
/^Subject: prepend/ PREPEND X-Before: yes
/^Subject: ignore/ IGNORE
/^Subject: hold/ HOLD wait
/^Subject: discard/ DISCARD
/^Subject: filter/ FILTER smtp:[127.0.0.1]:1
/^Subject: redirect/ REDIRECT some@where.example
/^Subject: bcc/ BCC copy@where.example
/^Subject: odd/ NONSENSE
/^X-Folded:.*two/m WARN folded
""",
    "mime": "/^Content-Type: .*exe/ REJECT mime\n/^X-Part/ REPLACE X-Part: new\n",
    "nested": "/^X-Nested/ IGNORE\n",
    "body": "/^reject this/ REJECT body\n/^replace/ REPLACE replaced\n/^prepend/ PREPEND before\n/^drop/ IGNORE\n",
}

HEADERS = [
    "From: me",
    "From: =?utf-8?q?x?= <me@host.example.com>, root@host.example.com",
    'To: you, "List, The" <list>, (comment) joe+ext@example.com',
    "To: you@keep.example.com, group: a, b;, <@route:x@y>",
    "Cc: " + ", ".join(f"Very Long Name {n} <user{n}@host.example.com>" for n in range(6)),
    "Bcc: hidden",
    "X-Drop: me",
    "Resent-To: someone",
    "Resent-From: else <e>",
    "Reply-To: x y z",
    "Sender: bad@@address, \\",
    "Message-Id: <abc@def>",
    "Message-ID:  <x <y> z> tail",
    "Date: yesterday",
    "Subject: reject me",
    "Subject: later",
    "Subject: warn " + "long " * 80,
    "Subject: info",
    "Subject: replace",
    "Subject: prepend",
    "Subject: ignore",
    "Subject: hold",
    "Subject: discard",
    "Subject: filter",
    "Subject: redirect",
    "Subject: bcc",
    "Subject: odd",
    "Subject: grüße",
    "X-Folded: one\n two\n\tthree",
    "X-Long: " + "x" * 500,
    "X-Longer: " + "\n ".join(["y" * 90] * 6),
    "Return-Path: <x>",
    "Content-Transfer-Encoding: 8bit",
    "Content-Transfer-Encoding: base64",
    "Content-Type: multipart/mixed; boundary=b",
    "Content-Type: message/rfc822",
    "Content-Type: text/plain; name=x.exe",
    "MIME-Version: 1.0",
    "Received: from somewhere",
    "Obsolete : spaces",
]
BODIES = [
    "",
    "text",
    "reject this",
    "replace me",
    "prepend me",
    "drop me",
    "--b",
    "--b--",
    "X-Part: old",
    "X-Nested: y",
    "Content-Type: a/b; name=x.exe",
    "é8bit=",
    "trailing ",
    "bell\x07",
    "x" * 2500,
    "nul\0nul",
    ".",
    "From x",
]
SENDERS = [
    "me",
    "me@example.com",
    "",
    "MAILER-DAEMON",
    "x@host.example.com",
    'odd "q" @x',
    "a@gone",
]
RECIPIENTS = [
    "you",
    "you+ext@example.com",
    "list@example.com",
    "joe@example.com",
    "joe+x@example.com",
    "x@old.example",
    "you",
    "Ü@example.com",
    "",
    "a b@c",
    "@r:x@y",
    "root@host.example.com",
    "x@x.example",
]
EXTRA: list[Record] = [
    ("F", "Full (Name) <x>"),
    ("F", "Plain Name"),
    ("A", "notify_flags=2"),
    ("A", "notify_flags=1"),
    ("A", "notify_flags=99"),
    ("A", "dsn_orig_rcpt=rfc822;o@x"),
    ("O", "orig"),
    ("A", "envelope_id=abc"),
    ("A", "ret_flags=1"),
    ("A", "encoding=8bit"),
    ("A", "log_helo_name=helo"),
    ("A", "log_protocol_name=ESMTP"),
    ("A", "log_message_origin=host[1.2.3.4]"),
    ("A", "empty="),
    ("W", "1234567890"),
    ("V", "+="),
    ("V", "xx"),
    ("L", "smtp:x"),
    (">", "redirect@x"),
    ("D", "done@x"),
    ("c", "1"),
    ("f", "4"),
    ("T", "1600000000"),
]


def random_message(chance: random.Random) -> list[Record]:
    """A message that may be anything, with a bias to what is nearly right."""
    records = envelope(sender=chance.choice(SENDERS))
    records[1] = ("A", f"rewrite_context={chance.choice(['local', 'local', 'remote'])}")
    records.pop()
    for _ in range(chance.choice([1, 1, 2, 5])):
        if chance.random() < 0.3:
            records.append(chance.choice(EXTRA))
        records.append(("R", chance.choice(RECIPIENTS)))
    if chance.random() < 0.05:
        records.pop(chance.randrange(len(records)))
    records.append(("M", ""))
    lines: list[str] = []
    for header in chance.sample(HEADERS, chance.randrange(8)):
        lines += header.split("\n")
    if chance.random() < 0.9:
        lines.append("")
    lines += [chance.choice(BODIES) for _ in range(chance.randrange(12))]
    records += message(*lines, received=chance.random() < 0.97)
    if chance.random() < 0.1:
        records.append(("L", "tail"))
    records.append(("X", ""))
    if chance.random() < 0.2:
        records += [("A", "notify_flags=4"), ("R", chance.choice(RECIPIENTS))]
    return [*records, ("E", "")]


class Sides:
    """The real system in `directory`, and ours beside it."""

    def __init__(self, directory: Path) -> None:
        self.real = directory / "r"
        self.ours = directory / "o"
        self.etc = directory / "etc"
        for path in (self.real, self.ours, self.etc, directory / "data"):
            path.mkdir()
        shutil.chown(directory / "data", "postfix")
        for name, text in TABLES.items():
            (self.etc / name).write_text(text)
        main = (
            MAIN + f"queue_directory = {self.real}\ndata_directory = {directory}/data\nmaillog_file = {directory}/log\n"
        )
        (self.etc / "main.cf").write_text(main)
        rows = [
            "postlog unix-dgram n - n - 1 postlogd",
            "rewrite unix - - n - - trivial-rewrite",
            *(f"{name} unix - - n - 0 bounce" for name in ("bounce", "defer", "trace")),
        ]
        for name, parameters in self.overrides().items():
            rows.append(f"clean_{name} unix n - n - 0 cleanup")
            rows += [f"  -o {{ {key} = {value} }}" for key, value in parameters.items()]
        (self.etc / "master.cf").write_text("\n".join(rows) + "\n")
        for name in QUEUES:
            if name != "private":
                (self.ours / name).mkdir()
        (self.ours / "private").symlink_to(self.real / "private")
        self.log = directory / "log"
        self.lines: list[str] = []

    def overrides(self) -> dict[str, dict[str, str]]:
        return {
            name: {key: value.replace("/{dir}", str(self.etc)) for key, value in parameters.items()}
            for name, parameters in OVERRIDES.items()
        }

    def postfix(self, command: str) -> None:
        subprocess.run(["/usr/sbin/postfix", "-c", str(self.etc), command], check=True, capture_output=True)

    async def submit_real(self, name: str, flags: int, records: list[Record]) -> Outcome:
        path = str(self.real / "public" / f"clean_{name}")
        for _ in range(50):
            if os.access(path, os.W_OK):
                break
            await asyncio.sleep(0.1)
        start = self.log.stat().st_size if self.log.exists() else 0
        channel = await connect(path)
        (_, queue_id), *_ = await channel.read_announcement("cleanup_protocol")
        channel.send_message(Flags(flags))
        channel.write(encode(records))
        result = await channel.read(CleanupResult)
        channel.close()
        text = (await self.log_since(start)).decode("utf-8", "surrogateescape")
        lines = [line.partition("]: ")[2].replace(queue_id, "ID") for line in text.split("\n") if "/cleanup[" in line]
        queue, found = Harness(self.real, []).read(queue_id)
        return Outcome(queue_id, result.status, result.reason, queue, found, lines)

    async def log_since(self, start: int) -> bytes:
        """What the log has from `start` on, with all that has been sent to postlogd before now."""
        mark = f"mark {start}\n".encode()
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as postlog:
            postlog.sendto(mark.rstrip(), str(self.real / "public/postlog"))
        async with asyncio.timeout(30):
            while not (text := self.log.read_bytes()[start:] if self.log.exists() else b"").endswith(mark):  # noqa: ASYNC110
                await asyncio.sleep(0.002)  # another process writes the file: there is no event
        return text.removesuffix(mark)


@pytest.fixture(scope="module")
def sides() -> Iterator[Sides]:
    if not (DAEMONS / "cleanup").exists() or os.geteuid() != 0:
        pytest.skip("needs Debian's postfix and root")
    directory = Path(tempfile.mkdtemp(prefix="cln", dir="/tmp"))
    os.chmod(directory, 0o755)
    made = Sides(directory)
    made.postfix("start")
    time.sleep(1)
    try:
        yield made
    finally:
        made.postfix("stop")
        shutil.rmtree(directory, ignore_errors=True)


def difference(ours: dict[str, Any], real: dict[str, Any]) -> str:
    """The lines that differ: "-" the real system's, "+" ours."""

    def lines(side: dict[str, Any]) -> list[str]:
        return [
            f"{name} {part}" for name, value in side.items() for part in (value if isinstance(value, list) else [value])
        ]

    return "\n".join(difflib.unified_diff(lines(real), lines(ours), lineterm="", n=0))


def normal(outcome: Outcome) -> dict[str, Any]:
    """What both sides must agree on."""

    def plain(text: str) -> str:
        return re.sub(r"\d{14}\.ID@", "STAMP.ID@", text)

    def shown(line: str) -> str:
        return re.sub("(connect to Milter service [^ ]*): .*", r"\1", plain(log.printable(line)))

    sizes = [outcome.sizes[i] for i in (2, 3, 5)] if outcome.records else []
    return {
        "status": outcome.status,
        "reason": outcome.reason,
        "queue": outcome.queue,
        "sizes": sizes,
        "records": [
            plain(kind + text) for kind, text in outcome.records if kind != "C" and not text.startswith("create_time=")
        ],
        "log": [shown(line) for line in outcome.log if "unable to look up public/qmgr" not in line],
    }


@pytest.mark.parametrize("name", OVERRIDES)
def test_random_messages(sides: Sides, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(sides.ours)
    chance = random.Random(name)
    monkeypatch.setenv("POSTFIXPY_VERSION", RELEASE)
    overrides = [*sides.overrides()[name].items()]

    async def main() -> None:
        view = config.load(str(sides.etc)).view(overrides=overrides)
        context = Context(config=None, view=view, program="cleanup", service="cleanup")  # type: ignore[arg-type]
        harness = Harness(sides.ours, sides.lines)
        service = harness.service = Cleanup(context)
        await service.pre_jail()
        await service.start()
        service.rewriter = RewriteClient(str(sides.real / "private/rewrite"))
        for number in range(150):
            records = random_message(chance)
            flags = FLAGS_EXTERNAL | (FLAG_AUTOUTF8 if chance.random() < 0.5 else 0)
            if chance.random() < 0.1:
                flags = 0
            real = normal(await sides.submit_real(name, flags, records))
            ours = normal(await harness.submit(flags, records))
            assert ours == real, f"message {number}: {records}\n{difference(ours, real)}"
        await service.stop()

    previous = log.set_sink(
        lambda severity, text: sides.lines.append(text if severity == "info" else f"{severity}: {text}")
    )
    try:
        asyncio.run(main())
    finally:
        log.set_sink(previous)


def test_time_is_what_it_was() -> None:
    assert TIME == 1_700_000_000 and END[-1][0] == "E"
