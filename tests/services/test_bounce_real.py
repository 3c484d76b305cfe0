"""Ours and the real bounce(8), side by side: the same requests, logs and queue files, and no difference in what is
sent to cleanup, logged, answered and left on the disk.

The number of rounds is POSTFIXPY_ROUNDS (default 15). POSTFIXPY_SEED is the first seed.
"""

import asyncio
import difflib
import os
import random
import re
import shutil
import time
from pathlib import Path

import pytest

from postfixpy import log
from postfixpy.config import load
from postfixpy.ipc import bounce as wire
from postfixpy.ipc.attributes import parse
from postfixpy.ipc.message import Message
from postfixpy.ipc.service import Context
from postfixpy.mail.delivery import Recipient
from postfixpy.mail.dsn import DSN
from postfixpy.mail.records import Sizes, encode_record, encode_sizes
from postfixpy.services.bounce import Bounce

from .fake_cleanup import FakeCleanup
from .real_daemon import DAEMONS, RealDaemon

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(not (DAEMONS / "bounce").exists(), reason="no Postfix here"),
    pytest.mark.timeout(600),
]

ROUNDS = int(os.environ.get("POSTFIXPY_ROUNDS", "15"))
FIRST = int(os.environ.get("POSTFIXPY_SEED", "0"))
RELEASE = (3, 7)
ID = "4C1E0D4B7C"

TEMPLATES = """\
failure_template = <<EOF
Charset: {charset}
From: {sender}
Subject: Unzustellbar
Postmaster-Subject: Kopie

Hier ist $myhostname, $mail_name.
{text}
EOF

delay_template = <<EOF
Subject: Spät

x
EOF
"""


def a_configuration(rng: random.Random, directory: Path) -> dict[str, str]:
    classes = rng.sample(["bounce", "2bounce", "delay", "resource", "software"], rng.randrange(5))
    out = {
        "myhostname": rng.choice(("h.example.com", "Mixed.Example.com", "xn--bcher-kva.example")),
        "mail_name": rng.choice(("Postfix", "Post.fix (tm)")),
        "notify_classes": ", ".join(classes),
        "smtputf8_enable": rng.choice(("yes", "yes", "no")),
        "header_from_format": rng.choice(("standard", "obsolete")),
        "bounce_size_limit": rng.choice(("50000", "100", "1")),
        "enable_threaded_bounces": rng.choice(("yes", "no")),
        "internal_mail_filter_classes": rng.choice(("", "bounce", "notify bounce")),
        "smtputf8_autodetect_classes": rng.choice(("sendmail, verify", "all", "bounce")),
        "backwards_bounce_logfile_compatibility": rng.choice(("yes", "no")),
        "bounce_notice_recipient": rng.choice(("postmaster", "bounces@example.org")),
        "2bounce_notice_recipient": rng.choice(("postmaster", "two bounces@example.org")),
        "delay_notice_recipient": rng.choice(("postmaster", "late@example.org")),
        "delay_warning_time": rng.choice(("4h", "1d", "3w")),
        "maximal_queue_lifetime": rng.choice(("5d", "1h")),
        "hash_queue_names": rng.choice(("deferred, defer", "bounce active defer trace")),
        "hash_queue_depth": rng.choice(("1", "2")),
    }
    if rng.random() < 0.4:
        out["bounce_template_file"] = str(directory / "bounce.cf")
        charset, text = rng.choice((("us-ascii", "plain"), ("utf-8", "häßlich"), ("us-ascii", "häßlich")))
        sender = rng.choice(("Mail <x@y>", "z"))
        (directory / "bounce.cf").write_text(TEMPLATES.format(charset=charset, text=text, sender=sender))
    return out


ADDRESSES = (
    "joe@example.com",
    "two words@example.com",
    "jö@exämple.com",
    "",
    '"@x.y',
    "bad\udcff@x.y",
    "x" * 90 + "@y.z",
)
REASONS = (
    "no such user",
    "host mx.example.com[192.0.2.1] said: 550 5.1.1 <joe@example.com>: Recipient address rejected: User unknown "
    "in virtual mailbox table (in reply to RCPT TO command)",
    "x" * 200,
    "wörter " * 30,
    "double  blanks   and a trailing one ",
    "control\x01char and\ttab",
    "",
)


def recipient_fields(rng: random.Random, offsets: list[int]) -> dict[str, object]:
    diag = rng.random() < 0.5
    return {
        "original_recipient": rng.choice(("", "", "al@example.org", "joe@example.com", "JOE@example.com", "ü@b")),
        "recipient": rng.choice(ADDRESSES),
        "offset": rng.choice(offsets),
        "dsn_orig_rcpt": rng.choice(("", "rfc822;al@example.org", "utf-8;ü@b")),
        "notify_flags": rng.choice((0, 0, 0, 1, 2, 4, 8, 12, 14)),
        "dsn_status": rng.choice(("5.1.1", "4.4.1", "2.0.0", "")),
        "diag_type": "smtp" if diag else "",
        "diag_text": rng.choice(("550 5.1.1 no " * 9, "", "häh")) if diag else "",
        "mta_type": rng.choice(("dns", "")),
        "mta_mname": rng.choice(("mx.example.com", "", "m" * 100)),
        "action": rng.choice(("failed", "delayed", "relayed", "deliverable", "")),
        "reason": rng.choice(REASONS),
    }


def queue_file(rng: random.Random) -> tuple[bytes, list[int]]:
    """A queue file, and the offsets of its recipient records."""
    head = encode_record("T", b"1795440000 123456")
    if rng.random() < 0.9:
        head += encode_record("S", rng.choice((b"me@example.com", b"", b"m x@example.com")))
    offsets = []
    start = len(encode_sizes(Sizes(0, 0, 0, 0, 0, 0)))
    for _ in range(3):
        offsets.append(start + len(head))
        head += encode_record("R", b"joe@example.com")
    content = b""
    lines = [b"From: me", b"Subject: hi", b"\tfolded", "Ünicode: ü".encode()]
    lines[1:1] = rng.choice(([b"Message-ID: <x@y>"], [b"message-id:<x@z>"], []))
    for line in lines[: rng.randrange(7)]:
        content += encode_record("N", line)
    if rng.random() < 0.3:
        content += encode_record("L", b"X-Long: " + b"a" * 2000) + encode_record("N", b"b" * 50)
    content += encode_record("N", b"") + encode_record("N", b"body \xff") * rng.randrange(1, 30)
    data_offset = start + len(head) + 2
    sizes = Sizes(len(content), data_offset if rng.random() < 0.9 else 0, 3, 0, len(content), 0)
    tail = encode_record("A", b"encoding=8bit") if rng.random() < 0.8 else b""
    whole = encode_sizes(sizes) + head + encode_record("M", b"") + content
    return whole + encode_record("X", b"") + tail + encode_record("E", b""), offsets


def requests(rng: random.Random, service: str, offsets: list[int], double: str) -> list[Message]:
    queue_id = rng.choice((ID,) * 9 + ("../x",))
    out: list[Message] = []
    for _ in range(rng.choice((0, 1, 1, 2, 4))):
        fields = recipient_fields(rng, [*offsets, -1, 0])
        out.append(wire.Append(wire.APPEND, rng.choice((0, 0, 1)), ID, **fields))  # type: ignore[arg-type]
    sender = rng.choice(("me@example.com", "me@example.com", "", double, "two words@b", "ü@é", "nodomain"))
    common = (
        rng.choice((0, 0, 2, 1, 0x200, 0x400, 0x2000)),
        rng.choice(("active",) * 9 + ("no.queue",)),
        queue_id,
        rng.choice(("", "7bit", "8bit", "strange")),
        rng.choice((0, 0, 1, 8, 9)),
        sender,
        rng.choice(("", "envelope+id")),
        rng.choice((0, 1, 2)),
    )
    kind = rng.choice(
        {"bounce": (wire.FLUSH, wire.FLUSH, wire.VERP, wire.ONE), "defer": (wire.WARN, wire.WARN, wire.FLUSH)}.get(
            service, (wire.TRACE,)
        )
    )
    if kind == wire.VERP:
        out.append(wire.NotifyVerp(kind, *common, rng.choice(("+=", "+=", "x"))))
    elif kind == wire.ONE:
        fields = recipient_fields(rng, [*offsets, -1])
        out.append(wire.NotifyOne(kind, *common, **fields))  # type: ignore[arg-type]
    else:
        out.append(wire.Notify(kind, *common))
    return out


def ask_real(daemon: RealDaemon, question: Message) -> str:
    with daemon.connect() as client:
        client.sendall(question.encode(RELEASE))
        data = b""
        try:
            while block := client.recv(65536):
                data += block
        except ConnectionResetError:
            pass  # it died
    assert data, daemon.log()
    answers = []
    while data and (parsed := parse(data)) is not None:
        answers.append(parsed[0])
        data = data[parsed[1] :]
    assert answers[0] == [("protocol", "delivery_status_protocol")]
    return answers[1][0][1] if len(answers) > 1 else "died"


async def ask_ours(service: Bounce, question: Message) -> str:
    parsed = parse(question.encode(RELEASE))
    assert parsed is not None
    return str(await service.answer(parsed[0]) & 0xFFFFFFFF)


def normal(text: str) -> str:
    """Without what differs from second to second."""
    text = re.sub(r"\.\d{10}/", ".TIME/", text)
    text = re.sub(r"(?m)^([A-Z][-A-Za-z]+: \w{3}),  (\d) ", r"\1, 0\2 ", text)  # two-digit day since 3.9
    return re.sub(r"(?m)^(Date: |\tid NEW\d+; ).*$", r"\1DATE", text)


def seen(cleanup: FakeCleanup) -> list[tuple[str, bool, list[tuple[str, bytes]], str]]:
    return [
        (
            message.flags,
            message.complete,
            [record for record in message.records if record[0] not in "NLT"] if message.complete else [],
            normal(message.text()) if message.complete else "",
        )
        for message in cleanup.messages
    ]


def files(queue: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(queue)): path.read_bytes()
        for name in ("active", "bounce", "defer", "trace")
        for path in (queue / name).rglob("*")
        if path.is_file()
    }


def printable(text: str) -> str:
    return log.printable(text).encode("utf-8", "replace").decode()


@pytest.mark.parametrize("seed", range(FIRST, FIRST + ROUNDS))
def test_no_difference(tmp_path: Path, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = random.Random(seed)
    config, queue, ours = tmp_path / "etc", tmp_path / "queue", tmp_path / "ours"
    (tmp_path / "data").mkdir()
    config.mkdir()
    settings = a_configuration(rng, config)
    text = "".join(f"{name} = {value}\n" for name, value in settings.items())
    (config / "main.cf").write_text(
        f"compatibility_level = 3.6\nqueue_directory = {queue}\ndata_directory = {tmp_path}/data\n"
        f"maillog_file = {tmp_path}/log\nmaillog_file_prefixes = {tmp_path}\n{text}"
    )
    service = rng.choice(("bounce", "bounce", "defer", "trace"))
    view = load(str(config), release="3.7").view(process_name="bounce", service_name=service)
    made = Bounce(Context(view.configuration, view, "bounce", service))
    data, offsets = queue_file(rng)
    for name in ("active", "bounce", "defer", "trace", "public"):
        (queue / name).mkdir(parents=True)
    questions = requests(rng, service, offsets, f"double-bounce@{settings['myhostname']}")
    monkeypatch.chdir(queue)
    asyncio.run(made.pre_jail())
    if rng.random() < 0.9:
        path = Path(made.queue.path("active", ID))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        path.chmod(0o700)
    shutil.copytree(queue, ours)
    verdict = rng.choice((0, 0, 0, 0, 2))

    with (
        FakeCleanup(queue / "public" / "cleanup", verdict) as cleanup,
        RealDaemon("bounce", service, config, queue, "-z") as daemon,
    ):
        real = []
        for question in questions:
            answer = ask_real(daemon, question)
            real.append((answer, daemon.log()))
        time.sleep(0.01)
        real_cleanup, real_files, late = seen(cleanup), files(queue), daemon.log()
    assert late == []

    monkeypatch.chdir(ours)
    lines: list[str] = []
    previous = log.set_sink(
        lambda severity, text: lines.append(printable(text if severity == "info" else f"{severity}: {text}"))
    )
    try:
        with FakeCleanup(ours / "public" / "cleanup", verdict) as cleanup:
            got = []
            for question in questions:
                lines.clear()
                got.append((asyncio.run(ask_ours(made, question)), list(lines)))
            time.sleep(0.01)
            our_cleanup = seen(cleanup)
    finally:
        log.set_sink(previous)
    context = f"{service}\n{questions}\n{text}"
    assert got == real, context
    for one, other in zip(our_cleanup, real_cleanup, strict=True):
        assert one == other, context + "\n".join(difflib.unified_diff(other[3].split("\n"), one[3].split("\n")))
    assert files(ours) == real_files, context


def test_our_client_and_the_real_service(tmp_path: Path) -> None:
    config, queue = tmp_path / "etc", tmp_path / "queue"
    (tmp_path / "data").mkdir()
    config.mkdir()
    for name in ("active", "defer", "public"):
        (queue / name).mkdir(parents=True)
    (config / "main.cf").write_text(
        f"compatibility_level = 3.6\nqueue_directory = {queue}\ndata_directory = {tmp_path}/data\n"
        f"maillog_file = {tmp_path}/log\nmaillog_file_prefixes = {tmp_path}\nhash_queue_names = deferred\n"
    )

    async def talk(path: str) -> list[bool]:
        where = Recipient("joe@example.com", "al@example.org", 99)
        status = DSN("4.4.1", "delayed", "later", "smtp", "450 no", "dns", "mx")
        common = (0, "active", ID, "8bit", 1, "me@example.com", "", 0)
        return [
            await wire.append(path, 0, ID, where, status),
            await wire.append(path, 0, "bad/id", where, status),
            await wire.request(path, wire.Notify(wire.WARN, *common), release=RELEASE),
            await wire.request(path, wire.Notify(wire.FLUSH, *common), release=RELEASE),
        ]

    with (
        FakeCleanup(queue / "public" / "cleanup") as cleanup,
        RealDaemon("bounce", "defer", config, queue, "-z") as daemon,
    ):
        assert asyncio.run(talk(str(daemon.path))) == [True, False, True, True]
        assert daemon.log() == [
            "warning: malformed queue id: bad/id",
            f"{ID}: sender delay notification: NEW00001",
            f"{ID}: sender non-delivery notification: NEW00002",
        ]
    assert "Remote-MTA: dns; mx\n" in cleanup.messages[0].text()
