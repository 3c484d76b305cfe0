"""The server's side for scripted servers of tests and scenarios: every mechanism of the client, with fixed nonces.

What is random in a client's messages is masked by `shown`, so that two runs look alike; the mechanisms here check it.
"""

import base64
import re
from collections.abc import Generator, Mapping
from typing import Any

from .cram_md5 import digest
from .digest_md5 import parse, response_value
from .scram import ScramSHA1, ScramSHA224, ScramSHA256, ScramSHA384, ScramSHA512
from .server import Challenge, Check, CheckToken, Refused, Run, ScramSecret, scram, start

NONCE = "srvNONCE"
_LIE = b"v=" + base64.b64encode(bytes(32))
"""A server's signature that is none: what a mechanism with "-LIAR" behind its name says in the end."""
CRAM_CHALLENGE = b"<1896.697170952@server.example>"
_SCRAM = {kind.name: kind for kind in (ScramSHA1, ScramSHA224, ScramSHA256, ScramSHA384, ScramSHA512)}


def conduct(
    mechanism: str, initial: bytes | None, user: str, password: str, bindings: Mapping[str, bytes] | None = None
) -> Generator[bytes, bytes, bool]:
    """The server's side of an exchange: yields challenges, gets responses; returns whether the client is `user`."""
    answer: Any = None
    name, liar, _ = mechanism.upper().partition("-LIAR")
    try:
        run = _start(name, initial, user, password, bindings or {})
        while True:
            asked = run.send(answer)
            if isinstance(asked, Challenge):
                answer = yield _LIE if liar and asked.data.startswith(b"v=") else asked.data
            elif isinstance(asked, Check):
                answer = (asked.user, asked.password) == (user, password)
            elif isinstance(asked, CheckToken):
                answer = (asked.user, asked.token) == (user, password)
            else:
                answer = ScramSecret.of(password, asked.digest, b"saltSALTsalt") if asked.user == user else None
    except StopIteration as stop:
        return bool(stop.value == user)
    except Refused:
        return False


class Scripted:
    """The server's side for one AUTH command, by lines. `words` are mechanism, user and password."""

    def __init__(self, words: str) -> None:
        self.mechanism, self.user, self.password = [*words.split(" ", 2), "", ""][:3]
        self._run: Generator[bytes, bytes, bool] | None = None

    def respond(self, line: bytes) -> bytes | None:
        """The reply to a line of the client; None: the exchange is over, for good or ill."""
        try:
            if self._run is None:
                _, _, text = line.partition(b" ")[2].partition(b" ")
                initial = base64.b64decode(text, validate=True) if text else None
                self._run = conduct(self.mechanism, initial, self.user, self.password)
                challenge = next(self._run)
            else:
                challenge = self._run.send(base64.b64decode(line, validate=True))
        except (StopIteration, ValueError):
            return None
        return b"334 " + base64.b64encode(challenge) + b"\r\n"


def _start(name: str, initial: bytes | None, user: str, password: str, bindings: Mapping[str, bytes]) -> Run:
    if name == "CRAM-MD5":
        return _cram_md5(user, password)
    if name in ("DIGEST-MD5", "DIGEST-MD5-ANEW"):
        return _digest_md5(user, password, initial if name == "DIGEST-MD5" else None)
    if name in ("ANONYMOUS", "EXTERNAL"):
        return _anything(initial, user)
    if name.removesuffix("-PLUS") in _SCRAM:
        kind = _SCRAM[name.removesuffix("-PLUS")]
        return scram(kind, initial, bindings, NONCE, plus=name.endswith("-PLUS"))
    return start(name, initial, bindings, NONCE)


def _anything(initial: bytes | None, user: str) -> Run:
    if initial is None:
        yield Challenge(b"")
    return user


def _cram_md5(user: str, password: str) -> Run:
    answer = yield Challenge(CRAM_CHALLENGE)
    if answer != user.encode() + b" " + digest(password.encode(), CRAM_CHALLENGE):
        raise Refused("wrong digest")
    return user


def _digest_md5(user: str, password: str, again: bytes | None) -> Run:
    """`again` is an initial response, which has the nonce of before; without it there is a challenge."""
    challenge = b'realm="server.example",nonce="%s",qop="auth",charset=utf-8,algorithm=md5-sess' % NONCE.encode()
    said = dict(parse(again or (yield Challenge(challenge))))
    pairs = (NONCE.encode(), said["cnonce"], said["nc"])
    known = (user.encode(), b"server.example", password.encode(), pairs, said["digest-uri"])
    if said["response"] != response_value(*known, of_server=False):
        raise Refused("wrong digest")
    yield Challenge(b"rspauth=" + response_value(*known, of_server=True))
    return user


_MASKS = (
    # SCRAM: the client's nonce, before what the server added, and the proof
    (re.compile(rb"(?<![a-z])r=[^,]*?(srvNONCE)?(?=,|$)"), rb"r=#\1"),
    (re.compile(rb",p=[A-Za-z0-9+/=]+$"), b",p=#"),
    # DIGEST-MD5
    (re.compile(rb'cnonce="[^"]*"'), b'cnonce="#"'),
    (re.compile(rb"response=[0-9a-f]{32}"), b"response=#"),
)
_RANDOM = re.compile(rb"([nyp](=[a-z-]+)?,(a=[^,]*)?,n=|c=[A-Za-z0-9+/=]+,r=|username=)")


def shown(line: bytes) -> bytes:
    """A line of a client as recordings show it: a response with something random in it decoded and masked."""
    head, _, text = line.rpartition(b" ")
    if head and not head.upper().startswith(b"AUTH "):
        return line
    try:
        data = base64.b64decode(text, validate=True)
    except ValueError:
        return line
    if data.startswith(b"NTLMSSP\0"):
        data = b"NTLM message %d" % data[8]
    elif _RANDOM.match(data):
        for pattern, mask in _MASKS:
            data = pattern.sub(mask, data)
    else:
        return line
    return (head + b" " if head else b"") + b"{" + data + b"}"
