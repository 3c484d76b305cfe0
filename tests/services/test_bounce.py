"""The service bounce(8): requests in; logs, notices and marks out."""

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from postfixpy import log
from postfixpy.config import load
from postfixpy.errors import FatalError
from postfixpy.ipc import bounce as wire
from postfixpy.ipc.attributes import ProtocolError, parse
from postfixpy.ipc.cleanup import CleanupResult
from postfixpy.ipc.message import Message
from postfixpy.ipc.service import Context
from postfixpy.mail import bounce_log
from postfixpy.mail.records import Sizes, encode_record, encode_sizes
from postfixpy.services.bounce import Bounce, Posting
from postfixpy.services.notices.plan import Notice

ID = "4C1E0D4B7C"
DOUBLE = "double-bounce@h.example.com"


class Posted:
    """A message that the service sends."""

    def __init__(self, notice: Notice, number: int, status: int) -> None:
        self.notice, self.queue_id, self.status = notice, f"NEW{number}", status
        self.lines: list[str] = []
        self.state = "open"

    def record(self, kind: str, payload: bytes | str = b"") -> None:
        assert isinstance(payload, bytes)
        self.lines.append(payload.decode("utf-8", "surrogateescape"))

    async def drain(self) -> None:
        if self.status < 0:
            raise ProtocolError("write error on public/cleanup: Broken pipe")

    async def finish(self) -> CleanupResult:
        await self.drain()
        self.state = "sent"
        return CleanupResult(self.status, "")

    def close(self) -> None:
        if self.state == "open":
            self.state = "cancelled"

    @property
    def text(self) -> str:
        return "\n".join(self.lines)


class BounceHere(Bounce):
    """The service, with a cleanup that keeps its messages and answers `status` (None: it is not there)."""

    status: int | None = 0

    def __init__(self, context: Context) -> None:
        super().__init__(context, lambda: 1795444800.5)
        self.posted: list[Posted] = []

    async def post(self, notice: Notice, sendopts: int) -> Posting:
        if self.status is None:
            raise FileNotFoundError(2, "No such file or directory")
        self.posted.append(Posted(notice, len(self.posted) + 1, self.status))
        return self.posted[-1]

    def ask(self, message: Message) -> int:
        parsed = parse(message.encode())
        assert parsed is not None
        return asyncio.run(self.answer(parsed[0]))

    def told(self) -> list[tuple[str, str, str]]:
        return [(p.notice.sender, p.notice.recipient, p.state) for p in self.posted]


@pytest.fixture
def logged() -> Iterator[list[str]]:
    lines: list[str] = []
    previous = log.set_sink(lambda severity, text: lines.append(text if severity == "info" else f"{severity}: {text}"))
    yield lines
    log.set_sink(previous)


@pytest.fixture
def queue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("active", "bounce", "defer", "trace"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def service(queue: Path, name: str = "bounce", settings: str = "") -> BounceHere:
    (queue / "main.cf").write_text(
        f"compatibility_level = 3.6\nmyhostname = h.example.com\nhash_queue_names = deferred\n{settings}"
    )
    view = load(str(queue)).view(process_name="bounce", service_name=name)
    made = BounceHere(Context(view.configuration, view, "bounce", name))
    asyncio.run(made.pre_jail())
    return made


def message_file(queue: Path) -> list[int]:
    """Write the queue file of a message to two recipients; where their records are."""
    head = encode_record("T", b"1795440000 0") + encode_record("S", b"me@example.com")
    start = len(encode_sizes(Sizes(0, 0, 0, 0, 0, 0)))
    offsets = [start + len(head), start + len(head + encode_record("R", b"joe@x"))]
    head += encode_record("R", b"joe@x") + encode_record("R", b"jim@x") + encode_record("M", b"")
    content = encode_record("N", b"Subject: hi") + encode_record("N", b"") + encode_record("N", b"body")
    sizes = encode_sizes(Sizes(len(content), start + len(head), 2, 0, 20, 0))
    data = sizes + head + content + encode_record("X", b"") + encode_record("E", b"")
    (queue / "active" / ID).write_bytes(data)
    return offsets


def append(recipient: str = "joe@x", offset: int = -1, notify: int = 0, flags: int = 0) -> wire.Append:
    status = ("5.1.1", "", "", "", "", "failed", "no such user")
    return wire.Append(wire.APPEND, flags, ID, "", recipient, offset, "", notify, *status)


def notify(request: int = wire.FLUSH, sender: str = "me@example.com", flags: int = 0, ret: int = 0) -> wire.Notify:
    return wire.Notify(request, flags, "active", ID, "7bit", 0, sender, "", ret)


def test_append(queue: Path, logged: list[str]) -> None:
    made = service(queue)
    assert made.ask(append("al smith@x", 7)) == 0
    entries = bounce_log.read(made.queue, "bounce", ID)
    assert entries is not None
    assert [(e.recipient.address, e.recipient.offset, e.dsn.reason) for e in entries] == [
        ('"al smith"@x', 7, "no such user")
    ]
    assert (queue / "bounce" / ID).read_bytes().startswith(b'\n<"al smith"@x>: no such user\nrecipient=')


def test_append_without_the_old_line(queue: Path) -> None:
    made = service(queue, settings="backwards_bounce_logfile_compatibility = no\n")
    assert made.ask(append()) == 0
    assert (queue / "bounce" / ID).read_bytes().startswith(b"\nrecipient=joe@x\n")


def test_control_characters_do_not_make_lines(queue: Path) -> None:
    assert service(queue).ask(append("joe\nstatus=2.0.0@x")) == 0
    assert b"recipient=joe?status=2.0.0@x\n" in (queue / "bounce" / ID).read_bytes()


def test_flush(queue: Path, logged: list[str]) -> None:
    made = service(queue)
    message_file(queue)
    made.ask(append())
    assert made.ask(notify()) == 0
    assert made.told() == [("", "me@example.com", "sent")]
    assert "\n<joe@x>: no such user\n" in made.posted[0].text
    assert "\nReturn-Path: <me@example.com>\nSubject: hi\n\nbody\n\n--4C1E0D4B7C.1795444800/" in made.posted[0].text
    assert not (queue / "bounce" / ID).exists()
    assert logged == [f"{ID}: sender non-delivery notification: NEW1"]


def test_flush_of_the_defer_log_marks_recipients_done(queue: Path, logged: list[str]) -> None:
    made = service(queue, "defer")
    joe, jim = message_file(queue)
    made.ask(append("joe@x", joe))
    made.ask(append("jim@x", jim))
    assert made.ask(notify(flags=wire.DELETE_RECIPIENTS)) == 0
    data = (queue / "active" / ID).read_bytes()
    assert (data[joe : joe + 1], data[jim : jim + 1]) == (b"D", b"D")
    assert not (queue / "defer" / ID).exists()


def test_ret_hdrs_and_bounce_size_limit(queue: Path) -> None:
    made = service(queue)
    message_file(queue)
    for size_limit, ret, whole in (("50000", 0, True), ("50000", 2, False), ("10", 1, False)):
        made = service(queue, settings=f"bounce_size_limit = {size_limit}\n")
        made.ask(append())
        assert made.ask(notify(ret=ret)) == 0
        assert ("\nbody\n" in made.posted[0].text) is whole
        assert ("Content-Type: message/rfc822" in made.posted[0].text) is whole


def test_nobody_wants_to_know(queue: Path, logged: list[str]) -> None:
    made = service(queue)
    made.ask(append(notify=1))
    assert made.ask(notify()) == 0
    assert made.told() == [("", "me@example.com", "cancelled")]
    assert not (queue / "bounce" / ID).exists()


def test_cleanup_refuses(queue: Path, logged: list[str]) -> None:
    made = service(queue, settings="notify_classes = bounce\n")
    made.status = 2
    made.ask(append())
    assert made.ask(notify()) == 2
    assert (queue / "bounce" / ID).exists()
    assert logged == [
        f"{ID}: sender non-delivery notification: NEW1",
        f"warning: {ID}: sender notification failed to me@example.com: queue file write error",
    ]


def test_cleanup_dies(queue: Path, logged: list[str]) -> None:
    made = service(queue)
    made.status = -1
    assert made.ask(notify()) != 0
    assert "warning: write error on public/cleanup: Broken pipe" in logged


def test_cleanup_is_not_there(queue: Path, logged: list[str]) -> None:
    made = service(queue)
    made.status = None
    made.ask(append())
    assert made.ask(notify()) == 1
    assert (queue / "bounce" / ID).exists()
    assert logged == [
        "warning: connect to public/cleanup: No such file or directory",
        f"warning: {ID}: sender notification failed to me@example.com",
    ]


def test_copy_that_fails_is_only_logged(queue: Path, logged: list[str]) -> None:
    made = service(queue, settings="notify_classes = bounce\n")

    async def post(notice: Notice, sendopts: int) -> Posting:
        made.status = 2 if notice.postmaster else 0
        return await BounceHere.post(made, notice, sendopts)

    made.post = post  # type: ignore[method-assign]
    made.ask(append())
    assert made.ask(notify()) == 0
    assert not (queue / "bounce" / ID).exists()
    assert logged[-1] == f"warning: {ID}: postmaster notice failed while bouncing to me@example.com"


def test_double_bounce_is_discarded(queue: Path, logged: list[str]) -> None:
    made = service(queue, settings="notify_classes = bounce, 2bounce\n")
    made.ask(append())
    assert made.ask(notify(sender=DOUBLE)) == 0
    assert made.posted == []
    assert not (queue / "bounce" / ID).exists()
    assert logged == [f"warning: {ID}: undeliverable postmaster notification discarded"]


def test_bounced_notice_goes_to_the_postmaster(queue: Path, logged: list[str]) -> None:
    made = service(queue, settings="notify_classes = 2bounce\n2bounce_notice_recipient = twice@example.com\n")
    made.ask(append())
    assert made.ask(notify(sender="")) == 0
    assert made.told() == [(DOUBLE, "twice@example.com", "sent")]
    assert logged == [f"{ID}: postmaster non-delivery notification: NEW1"]


def test_warn_keeps_the_log(queue: Path, logged: list[str]) -> None:
    made = service(queue, "defer", "notify_classes = delay\n")
    made.ask(append())
    assert made.ask(notify(wire.WARN)) == 0
    assert made.told() == [("", "me@example.com", "sent"), (DOUBLE, "postmaster", "sent")]
    assert (queue / "defer" / ID).exists()
    assert logged == [f"{ID}: sender delay notification: NEW1", f"{ID}: postmaster delay notification: NEW2"]


def test_trace(queue: Path, logged: list[str]) -> None:
    made = service(queue, "trace")
    made.ask(append())
    assert made.ask(notify(wire.TRACE, flags=0x200)) == 0
    assert "Enclosed is the mail delivery report that you requested." in made.posted[0].text
    assert not (queue / "trace" / ID).exists()
    assert logged == [f"{ID}: sender delivery status notification: NEW1"]


def test_trace_without_a_log(queue: Path, logged: list[str]) -> None:
    made = service(queue, "trace")
    assert made.ask(notify(wire.TRACE)) == 0
    assert (made.posted, logged) == ([], [])


def test_trace_of_a_notice_removes_the_log(queue: Path, logged: list[str]) -> None:
    made = service(queue, "trace", "notify_classes =\n")
    made.ask(append())
    assert made.ask(notify(wire.TRACE, sender="")) == 0
    assert not (queue / "trace" / ID).exists()
    assert logged == [f"{ID}: not sending trace/success notification for single-bounce message"]


def test_verp(queue: Path, logged: list[str]) -> None:
    made = service(queue)
    made.ask(append("joe@x"))
    made.ask(append("jim@y", notify=1))
    made.ask(append("jill@z"))
    common = (0, "active", ID, "", 0, "list@example.com", "", 0)
    assert made.ask(wire.NotifyVerp(wire.VERP, *common, "+=")) == 0
    assert [r for _, r, _ in made.told()] == ["list+joe=x@example.com", "list+jill=z@example.com"]
    assert "jill" not in made.posted[0].text
    assert not (queue / "bounce" / ID).exists()


def test_verp_without_a_log_returns_something(queue: Path) -> None:
    made = service(queue)
    common = (0, "active", ID, "", 0, "list@example.com", "", 0)
    assert made.ask(wire.NotifyVerp(wire.VERP, *common, "+=")) == 0
    assert made.told() == [("", "list@example.com", "sent")]
    assert "<(recipient address unavailable)>: (error report unavailable)" in made.posted[0].text


def test_one(queue: Path, logged: list[str]) -> None:
    made = service(queue)
    (joe, _) = message_file(queue)
    common = (wire.DELETE_RECIPIENTS, "active", ID, "", 0, "me@example.com", "", 0)
    status = ("5.1.1", "", "", "", "", "failed", "no such user")
    assert made.ask(wire.NotifyOne(wire.ONE, *common, "", "joe@x", joe, "", 0, *status)) == 0
    assert made.told() == [("", "me@example.com", "sent")]
    assert (queue / "active" / ID).read_bytes()[joe : joe + 1] == b"D"
    assert service(queue, "defer").ask(wire.NotifyOne(wire.ONE, *common, "", "joe@x", joe, "", 0, *status)) == -1
    assert logged[-1] == 'warning: wrong service name "defer" for one-recipient bouncing'


def test_clean_removes_the_log_of_a_request_that_fails(queue: Path) -> None:
    made = service(queue)
    made.status = 2
    made.ask(append(flags=wire.CLEAN))
    assert (queue / "bounce" / ID).exists()
    assert made.ask(notify(flags=wire.CLEAN)) == 2
    assert not (queue / "bounce" / ID).exists()


@pytest.mark.parametrize(
    ("request_", "complaint"),
    [
        ([("nrequest", "9")], "unknown command: 9"),
        ([("flags", "0")], "malformed request"),
        ([("nrequest", "0"), ("flags", "0")], "malformed request"),
    ],
)
def test_nonsense(queue: Path, logged: list[str], request_: list[tuple[str, str]], complaint: str) -> None:
    assert asyncio.run(service(queue).answer(request_)) == -1
    assert logged[-1] == f"warning: {complaint}"


def test_names_that_are_no_names(queue: Path, logged: list[str]) -> None:
    made = service(queue)
    bad = append()
    bad.queue_id = "../etc"
    assert made.ask(bad) == -1
    worse = notify()
    worse.queue_name = "../active"
    assert made.ask(worse) == -1
    assert logged == ["warning: malformed queue id: ../etc", "warning: malformed queue name: ../active"]
    with pytest.raises(FatalError, match="malformed service name: a/b"):
        service(queue, "a/b")


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes everywhere")
def test_log_that_cannot_be_written(queue: Path, logged: list[str]) -> None:
    (queue / "bounce").chmod(0o500)
    assert service(queue).ask(append()) == -1
    assert logged == [f"error: open file bounce {ID}: Permission denied"]


def test_log_that_is_no_file(queue: Path, logged: list[str]) -> None:
    (queue / "bounce" / ID).mkdir()
    made = service(queue)
    assert made.ask(append()) == -1
    assert made.ask(notify()) == -1
    assert logged[0] == f"error: open file bounce {ID}: Is a directory"


def test_bad_parameters_are_fatal_at_start(queue: Path) -> None:
    with pytest.raises(FatalError, match="unknown notify_classes value"):
        service(queue, settings="notify_classes = x\n")
    with pytest.raises(FatalError, match="invalid setting"):
        service(queue, settings="header_from_format = x\n")


def test_appends_at_the_same_time(queue: Path) -> None:
    made = service(queue)

    async def all_at_once() -> list[int]:
        requests = [append(f"r{n}@x").encode() for n in range(30)]
        parsed = [parse(request) for request in requests]
        return await asyncio.gather(*(made.answer(p[0]) for p in parsed if p is not None))

    assert asyncio.run(all_at_once()) == [0] * 30
    entries = bounce_log.read(made.queue, "bounce", ID)
    assert entries is not None
    assert {e.recipient.address for e in entries} == {f"r{n}@x" for n in range(30)}


def test_postconf_asks_for_the_templates(queue: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        service(queue, "dump_templates")
    assert ended.value.code == 0
    assert capsys.readouterr().out.startswith("failure_template = <<EOF\nCharset: us-ascii\n")
