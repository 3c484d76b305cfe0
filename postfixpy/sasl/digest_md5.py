"""DIGEST-MD5 (RFC 2831), for authentication only: no integrity or privacy layer.

Errors and limits are those of Cyrus SASL's plug-in. So is fast reauthentication: to a server that has proved itself to
this process before, an initial response is sent with its old nonce; it may agree, or ask anew. Differs from it: a nonce
is used for no more responses than a process of Postfix's lives for by default (max_use), since ours lives longer.
"""

import hashlib
import hmac
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

from .mechanism import BADAUTH, BADPROT, BADSERV, FAIL, Credentials, Mechanism, SASLError, encode

_MAX_CHALLENGE = 2048
_MAX_COUNT, _MAX_SERVERS = 100, 1000
_PAIR = re.compile(
    rb"[ \t\r\n,]*([^\x00-\x20\x7f-\xff()<>@,;:\\'/\[\]?={}]+)[^\x00=]?[ \t\r\n]*=[ \t\r\n]*"
    rb'(?:"((?:[^"\\\x00]|\\[^\x00])*)"|(?!")([^\x00-\x20\x7f-\xff()<>@,;:\\\'/\[\]?={}]*))[ \t\r\n]*(,|\Z)',
    re.DOTALL,
)
_NOTHING = re.compile(rb"[ \t\r\n,]*\Z")


def parse(data: bytes) -> Iterator[tuple[str, bytes]]:
    """The ``name=value`` pairs of a challenge or response, names in lower case. Raises ValueError."""
    data = data.partition(b"\0")[0]
    position = 0
    while not _NOTHING.match(data, position):
        match = _PAIR.match(data, position)
        if match is None:
            raise ValueError("not a list of pairs")
        value = re.sub(rb"\\(.)", rb"\1", match[2], flags=re.DOTALL) if match[2] is not None else match[3]
        yield match[1].lower().decode("ascii", "replace"), value
        position = match.end()


def quote(value: bytes) -> bytes:
    return b'"' + re.sub(rb'(["\\])', rb"\\\1", value) + b'"'


def response_value(
    user: bytes, realm: bytes, secret: bytes, pairs: tuple[bytes, bytes, bytes], uri: bytes, *, of_server: bool
) -> bytes:
    """The value of response= or, `of_server`, of rspauth=. `pairs` are nonce, cnonce and nonce count."""
    nonce, cnonce, count = pairs
    start = hashlib.md5(b":".join((user, realm, secret)), usedforsecurity=False).digest()
    first = _hex(b":".join((start, nonce, cnonce)))
    second = _hex((b"" if of_server else b"AUTHENTICATE") + b":" + uri)
    return _hex(b":".join((first, nonce, count, cnonce, b"auth", second)))


def _hex(data: bytes) -> bytes:
    return hashlib.md5(data, usedforsecurity=False).hexdigest().encode()


@dataclass(frozen=True, slots=True)
class Known:
    """What was agreed with a server: for whom, and how often it has been used."""

    user: bytes
    realm: bytes
    nonce: bytes
    cnonce: bytes
    count: int = 1


class DigestMD5(Mechanism):
    name = "DIGEST-MD5"
    client_first = False
    mutual = True

    def __init__(self, credentials: Credentials) -> None:
        super().__init__(credentials)
        self._expected: bytes | None = None
        self._known: Known | None = None
        self._again = False

    def initial(self) -> bytes | None:
        """The response to the challenge that the server sent the last time, if there was one."""
        memory, host = self.credentials.memory, self.credentials.host
        known = memory.get(host)
        if known is None or known.user != self.credentials.name or known.count >= _MAX_COUNT:
            return None
        memory[host] = known = replace(known, count=known.count + 1)
        self._again = True
        return self._respond(known)

    def _step(self, challenge: bytes) -> bytes:
        memory, host = self.credentials.memory, self.credentials.host
        if self._again:
            memory.pop(host, None)  # until the server has proved itself once more
        if len(challenge) > _MAX_CHALLENGE:
            raise SASLError(BADPROT)
        anew = self._again and challenge[:8].lower() != b"rspauth="
        self._again = False
        if self._expected is None or anew:
            realms, nonce = _read(challenge)
            realm = realms[0] if len(realms) == 1 else encode(host.lower())
            return self._respond(Known(self.credentials.name, realm, nonce, self.credentials.nonce().encode()))
        self._verify(challenge, self._expected)
        self.done = True
        if self._known is not None:
            memory[host] = self._known
            if len(memory) > _MAX_SERVERS:
                del memory[next(iter(memory))]
        return b""

    def _respond(self, known: Known) -> bytes:
        self._known = known
        credentials = self.credentials
        host = encode(credentials.host.lower())
        realm, user, secret = known.realm, known.user, credentials.secret
        pairs = (known.nonce, known.cnonce, b"%08x" % known.count)
        uri = credentials.service.encode() + b"/" + host
        self._expected = response_value(user, realm, secret, pairs, uri, of_server=True)
        response = (
            (b"username", quote(user)),
            (b"realm", quote(realm)),
            (b"nonce", quote(pairs[0])),
            (b"cnonce", quote(pairs[1])),
            (b"nc", pairs[2]),
            (b"qop", b"auth"),
            (b"digest-uri", quote(uri)),
            (b"response", response_value(user, realm, secret, pairs, uri, of_server=False)),
        )
        return b",".join(name + b"=" + value for name, value in response)

    @staticmethod
    def _verify(challenge: bytes, expected: bytes) -> None:
        """Raises SASLError unless the server knows the password, too."""
        try:
            for name, value in parse(challenge):
                if name == "rspauth":
                    if hmac.compare_digest(value, expected):
                        return
                    text = "DIGEST-MD5: This server wants us to believe that he knows shared secret"
                    raise SASLError(BADSERV, text)
        except ValueError:
            raise SASLError(BADAUTH, "DIGEST-MD5 Received Garbage") from None
        raise SASLError(FAIL)


def _read(challenge: bytes) -> tuple[list[bytes], bytes]:
    """The realms and the nonce of a challenge. Raises SASLError."""
    if not challenge:
        raise SASLError(FAIL, "no server challenge")
    realms: list[bytes] = []
    server_nonce, qop = None, None
    algorithms = buffers = 0
    try:
        for name, value in parse(challenge):
            if name == "realm":
                realms.append(value)
            elif name == "nonce":
                server_nonce = value
            elif name == "qop":
                qop = (qop or frozenset()) | {word.strip(b" \t\r\n").lower() for word in value.split(b",")}
            elif name == "maxbuf":
                buffers += 1
                _check_buffer(value, buffers)
            elif name == "charset" and value.lower() != b"utf-8":
                raise SASLError(BADAUTH, "Charset must be UTF-8")
            elif name == "algorithm":
                if value.lower() != b"md5-sess":
                    raise SASLError(FAIL, "'algorithm' isn't 'md5-sess'")
                algorithms += 1
                if algorithms > 1:
                    raise SASLError(FAIL, "Must see 'algorithm' only once")
    except ValueError:
        raise SASLError(BADAUTH, "Parse error") from None
    if qop is not None and not qop & {b"auth", b"auth-int", b"auth-conf"}:
        raise SASLError(BADAUTH, "Server doesn't support any known qop level")
    if not algorithms:
        raise SASLError(FAIL, "Must see 'algorithm' once. Didn't see at all")
    if server_nonce is None:
        raise SASLError(FAIL, "Don't have nonce.")
    if qop is not None and b"auth" not in qop:
        raise SASLError(FAIL, 'Server doesn\'t support "no layer"')
    return realms, server_nonce


def _check_buffer(value: bytes, count: int) -> None:
    """Raises SASLError for a maxbuf= that makes no sense; it is of no use here."""
    shown = value.decode("ascii", "replace")
    if count > 1:
        raise SASLError(BADAUTH, "At least two maxbuf directives found. Authentication aborted")
    if not value.isdigit() or int(value[:20]) > 0xFFFFFFFF:
        raise SASLError(BADAUTH, f"Invalid maxbuf parameter received from server ({shown})")
    if int(value) <= 16:
        raise SASLError(BADAUTH, f"Invalid maxbuf parameter received from server (too small: {shown})")
    if int(value) > 0xFFFFFF:
        raise SASLError(BADAUTH, f"Invalid maxbuf parameter received from server (too big: {shown})")
