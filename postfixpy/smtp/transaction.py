"""One mail transaction: the envelope, the content, and what the replies mean for each recipient (spec 6).

Sending and receiving are coupled as in Postfix. Commands run ahead of their replies when the server offers PIPELINING;
before a command goes out all outstanding replies are read first if the server does not, or if the output would exceed
a buffer, or if nothing was sent or received for more than ten seconds, and always before the final dot and after the
last command. At such a point everything is known, so it is there that a refused sender, the refusal of all recipients,
or a refused DATA ends the transaction with RSET.
"""

from collections import deque

from postfixpy import log

from . import failure, states
from . import session as feature
from .content import BAD_RECORD, EXTRACTED, ContentProblem, send_content
from .delivery import Delivery
from .effects import Corrupt, LocalDataError, Run, Sleep, StreamError
from .envelope import mail_command, rcpt_command, xforward_commands
from .reply import Reply
from .session import Session
from .states import State

PIPELINE_BUFFER = 4096
"""Bytes of pipelined commands that may wait in the output buffer."""
_IDLE = 10
"""Seconds without input or output after which outstanding replies are read first."""


class _Leave(Exception):
    """The transaction is over, in the middle of things; everything has been dealt with."""


class _Abort(Exception):
    """The transaction must be cancelled: the synchronised peers know that there is nothing to deliver."""


class Transaction:
    """One message on one session. Use `run`.

    accepted   how many recipients the server took; -1 after it refused DATA
    survivors  their indexes, in order: LMTP has one reply to the final dot for each
    """

    def __init__(self, delivery: Delivery, session: Session) -> None:
        self.d = delivery
        self.s = session
        self.waiting: deque[tuple[State, int]] = deque()
        self.rejected = False
        self.accepted = 0
        self.survivors: list[int] = []
        self.answered = 0
        self.lost_inside_data = False
        self.receiving: State = states.MAIL
        self.finished = False

    def run(self) -> Run[None]:
        """Deliver to the open recipients. Afterwards each of them has a mark."""
        d, s = self.d, self.s
        if 0 < s.size_limit < d.request.size:
            text = f"message size {d.request.size} exceeds size limit {s.size_limit} of server {s.namaddr}"
            yield from failure.message(d, text, status="5.3.4")
            d.completed = d.completed or s.stream.healthy
            return
        try:
            yield from self._converse()
        except _Leave:
            s.forbid_cache()
            if not self.finished:
                return
        except (StreamError, LocalDataError) as error:
            s.forbid_cache()
            state = states.CONTENT if self.lost_inside_data else self.receiving
            if state in states.SENDING_MAIL:
                yield from failure.stream(d, error, state)
            return
        d.completed = d.completed or s.stream.healthy

    def _converse(self) -> Run[None]:
        try:
            yield from self._envelope()
            if self.d.probe and self.d.settings.verify_target == "rcpt":
                yield from self._verified()
            else:
                yield from self._data()
        except _Abort:
            self._abort()
        if not self.finished and not self.s.kept and not self.lost_inside_data:
            yield from self._command(states.QUIT, "QUIT")
        yield from self._drain()
        self.finished = True

    # Sending

    def _command(self, state: State, text: str, index: int = -1) -> Run[None]:
        """Send a command, or hold it back until the replies to those before it are in."""
        if self.waiting and self._must_wait(state, text):
            yield from self._drain()
            if self.finished:
                if state is states.QUIT:
                    self.s.command(text)
                return
            self._correct(state)
        if state is states.MAIL:
            self._stamp()
        self.s.command(text)
        self.waiting.append((state, index))

    def _must_wait(self, state: State, text: str) -> bool:
        s = self.s
        if not s.pipelining:
            return True
        last = self.waiting[0][0]
        if not (state is states.QUIT and last is states.DOT):
            size = len(text.encode("utf-8", "surrogateescape")) + 2
            if size + len(s.stream.out) > PIPELINE_BUFFER:
                return True
        return int(s.stream.clock()) - int(s.stream.last_io) > _IDLE

    def _correct(self, state: State) -> None:
        """All replies are in: cancel when there is nothing left to send. Raises _Abort."""
        if (
            (state is states.RCPT and self.rejected)
            or (state is states.DATA and self.accepted == 0)
            or (state is states.DOT and self.accepted < 0)
        ):
            raise _Abort

    def _stamp(self) -> None:
        self.d.stats.reuse_count = self.s.reuse_count
        self.d.stats.connection_done = self.d.now()

    def _envelope(self) -> Run[None]:
        d, s = self.d, self.s
        first, second = xforward_commands(d, s)
        s.set_limit(states.XFORWARD_CLIENT if first else states.XFORWARD_HELO if second else states.MAIL)
        if first:
            self.receiving = states.XFORWARD_CLIENT
            yield from self._command(states.XFORWARD_CLIENT, first)
        if second:
            yield from self._command(states.XFORWARD_HELO, second)
        text = yield from mail_command(d, s)
        yield from self._early_reply()
        yield from self._command(states.MAIL, text)
        for index in range(len(d.recipients)):
            text = yield from rcpt_command(d, s, d.recipients[index])
            yield from self._command(states.RCPT, text, index)

    def _early_reply(self) -> Run[None]:
        """Input before MAIL in TLS is a sign of an attack (CVE-2009-3555)."""
        s = self.s
        if s.in_tls and s.settings.view.smtp_tls_block_early_mail_reply and (yield from s.stream.pending_input()):
            s.features |= feature.EARLY_MAIL_REPLY

    def _data(self) -> Run[None]:
        s = self.s
        yield from self._command(states.DATA, "DATA")
        yield from self._drain()
        self._correct(states.DOT)
        if self.accepted > 0:
            yield from self._content()
        if not self.lost_inside_data:
            if s.check_expired(s.stream.clock()):
                s.forbid_cache()
            s.command(".")
        self.waiting.append((states.DOT, -1))

    def _content(self) -> Run[None]:
        d, s = self.d, self.s
        view = d.settings.view
        s.set_limit(states.CONTENT, rate=view.smtp_min_data_rate)
        try:
            end = yield from send_content(d, s)
            s.note("data", str(s.stream.sent))
            if s.has(feature.PIX_DELAY_DOTCRLF):
                yield from s.stream.flush()
                yield from Sleep(view.smtp_pix_workaround_delay_time)
        except ContentProblem as error:
            yield from failure.message(d, str(error), status="5.6.0")
            self.finished = True
            raise _Leave from None
        except LocalDataError:
            self.receiving = states.CONTENT
            raise
        except StreamError as error:
            if error.kind != "eof":
                self.receiving = states.CONTENT
                raise
            # The server may have refused the message and hung up before all of it was sent.
            self.lost_inside_data = True
            s.forbid_cache()
            s.stream.revive()
            return
        if end != EXTRACTED:
            number = -2 if end == BAD_RECORD else ord(end) if end else -1
            log.warning(f"{d.request.queue_id}: bad record type: {number} in message content")
            s.stream.purge_output()
            s.forbidden = True
            yield from failure.message(d, "unreadable mail queue entry", status="5.3.0")
            if d.status == 0:
                yield from Corrupt()
            raise _Leave

    def _verified(self) -> Run[None]:
        """The end of an address probe: RSET in place of DATA."""
        s = self.s
        if s.check_expired(s.stream.clock()):
            s.forbid_cache()
        yield from self._command(states.ABORT, "RSET")

    def _abort(self) -> None:
        s = self.s
        if s.check_expired(s.stream.clock()):
            s.forbid_cache()
        s.command("RSET")
        self.waiting.append((states.ABORT, -1))

    # Receiving

    def _drain(self) -> Run[None]:
        """Read the replies to all commands that were sent. Raises StreamError."""
        s = self.s
        while self.waiting and not self.finished:
            state, index = self.waiting[0]
            self.receiving = state
            s.set_limit(state)
            reply = yield from s.reply()
            if state is not states.DOT or not self._more_replies():
                self.waiting.popleft()
            yield from self._receive(state, index, reply)

    def _more_replies(self) -> bool:
        """LMTP: whether another recipient's reply to the final dot follows this one."""
        return self.d.settings.lmtp and self.answered + 1 < self.accepted

    def _receive(self, state: State, index: int, reply: Reply) -> Run[None]:
        if state is states.RCPT:
            yield from self._rcpt_reply(index, reply)
        elif state is states.DOT:
            yield from self._dot_reply(reply)
        elif state is states.DATA:
            yield from self._data_reply(reply)
        elif state is states.MAIL:
            yield from self._mail_reply(reply)
        elif state is states.ABORT:
            self._end_of_session()
        elif state in (states.XFORWARD_CLIENT, states.XFORWARD_HELO) and reply.kind != 2:
            text = f"host {self.s.namaddrport} said: {reply.line} (in reply to {state.command})"
            log.warning(text)

    def _mail_reply(self, reply: Reply) -> Run[None]:
        d, s = self.d, self.s
        if reply.kind != 2:
            self.rejected = True
            text = failure.said(reply, s.namaddr, states.MAIL)
            yield from failure.message(d, text, reply, command=states.MAIL.command)
        if s.has(feature.EARLY_MAIL_REPLY):
            self.rejected = True
            yield from failure.site(d, "unexpected server message", status="4.7.0")
            parameter = s.settings.name("smtp_tls_block_early_mail_reply")
            log.warning(f"server {s.namaddr} violates {parameter} policy")

    def _rcpt_reply(self, index: int, reply: Reply) -> Run[None]:
        d = self.d
        if self.rejected:
            return
        if reply.kind != 2:
            text = failure.said(reply, self.s.namaddr, states.RCPT)
            yield from failure.recipient(d, index, text, reply, states.RCPT.command)
            return
        self.accepted += 1
        self.survivors.append(index)
        if d.probe and d.settings.verify_target == "rcpt":
            yield from d.sent(index, reply)

    def _data_reply(self, reply: Reply) -> Run[None]:
        d, s = self.d, self.s
        if reply.kind != 3:
            if self.accepted > 0:
                text = failure.said(reply, s.namaddr, states.DATA)
                yield from failure.message(d, text, reply, command=states.DATA.command)
            self.accepted = -1
        elif d.probe and d.settings.verify_target == "data":
            reply.status = "2.0.0"
            for index in d.open():
                yield from d.sent(index, reply)
            self.finished = True
            raise _Leave  # the server waits for content: only hanging up is left

    def _dot_reply(self, reply: Reply) -> Run[None]:
        d, s = self.d, self.s
        d.stats.delivery_done = d.now()
        if self.accepted > 0:
            text = failure.said(reply, s.namaddr, states.DOT)
            if d.settings.lmtp:
                index = self.survivors[self.answered]
                self.answered += 1
                if reply.kind != 2:
                    yield from failure.recipient(d, index, text, reply, states.DOT.command)
                else:
                    yield from d.sent(index, reply)
                if s.verbose:
                    log.info(f"smtp_loop: got {self.answered} of {self.accepted} end-of-data replies")
                if self.answered < self.accepted:
                    return
            elif reply.kind != 2:
                yield from failure.message(d, text, reply, command=states.DOT.command)
            else:
                for index in d.open():
                    yield from d.sent(index, reply)
        self._end_of_session()

    def _end_of_session(self) -> None:
        """After the last reply that matters."""
        if self.s.settings.view.smtp_skip_quit_response or self.s.kept or self.lost_inside_data:
            self.finished = True
            self.waiting.clear()


def quit_session(s: Session) -> Run[None]:
    """A stand-alone QUIT: whatever the answer is, and whether there is one, does not matter."""
    try:
        s.set_limit(states.QUIT)
        s.command("QUIT")
        yield from s.stream.flush()
        if not s.settings.view.smtp_skip_quit_response:
            s.set_limit(states.QUIT)
            yield from s.reply()
    except (StreamError, LocalDataError):
        pass


def reset_session(s: Session) -> Run[bool]:
    """Whether a session from the cache still works: RSET must succeed."""
    try:
        s.set_limit(states.RSET)
        s.command("RSET")
        s.set_limit(states.RSET)
        reply = yield from s.reply()
    except (StreamError, LocalDataError):
        return False
    return reply.kind == 2
