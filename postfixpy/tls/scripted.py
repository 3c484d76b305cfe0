"""The TLS side of a scripted server, for scenarios and tests: the standard library's ssl over memory BIOs.

It is another implementation than the engine under test, so that the two do not share their mistakes. A step of a script
is ``starttls CERTIFICATE [OPTION...]`` (postfixpy.migrate.scenario); CERTIFICATE is a file of compat/certificates
without ``.pem``, or ``anonymous`` for none. Options:

    protocols=TLSv1,TLSv1.3   what the server speaks (default: all)
    ciphers=LIST              OpenSSL's list for TLS 1.2 and below
    curve=NAME                the one curve for key exchange (X25519); curve=any: what the library has
    tickets=N                 session tickets after a TLS 1.3 handshake (2); 0: no resumption at all
    verify=AUTHORITY          ask for a client certificate of AUTHORITY-ca.pem; verify=AUTHORITY! demands it
    cut=N                     hang up when N bytes have been sent
"""

import functools
import ssl
import warnings
from pathlib import Path

_VERSIONS = {
    "TLSv1": ssl.OP_NO_TLSv1,
    "TLSv1.1": ssl.OP_NO_TLSv1_1,
    "TLSv1.2": ssl.OP_NO_TLSv1_2,
    "TLSv1.3": ssl.OP_NO_TLSv1_3,
}
_CHUNK = 65536
TLS_HANDSHAKE, TLS_ALERT = b"\x16\x03", b"\x15\x03"
"""How records of TLS begin."""


@functools.cache
def server_context(step: str, directory: str) -> ssl.SSLContext:
    """The context of a step; connections with the same step share it, and so can resume sessions."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # old protocols are what it is for
        return _context(step, directory)


def _context(step: str, directory: str) -> ssl.SSLContext:
    name, *words = step.split()
    options = dict(word.split("=", 1) for word in words)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
    context.set_ciphers(f"{options.get('ciphers', 'ALL')}:@SECLEVEL=0")
    if "protocols" in options:
        wanted = options["protocols"].split(",")
        for version, bit in _VERSIONS.items():
            if version not in wanted:
                context.options |= bit
    if name == "anonymous":
        context.set_ciphers(f"{options.get('ciphers', 'aNULL')}:@SECLEVEL=0")
        context.options |= ssl.OP_NO_TLSv1_3
    else:
        context.load_cert_chain(Path(directory, f"{name}.pem"))
    curve = options.get("curve", "X25519")
    if curve != "any":
        try:
            context.set_ecdh_curve(curve)
        except ssl.SSLError:  # Python 3.11.2 knows none that is not a Weierstrass curve; OpenSSL's own choice is X25519
            if curve != "X25519":
                raise
    tickets = int(options.get("tickets", 2))
    context.num_tickets = tickets
    if not tickets:
        context.options |= ssl.OP_NO_TICKET
    if "verify" in options:
        authority = options["verify"]
        context.verify_mode = ssl.CERT_REQUIRED if authority.endswith("!") else ssl.CERT_OPTIONAL
        context.load_verify_locations(Path(directory, f"{authority.rstrip('!')}-ca.pem"))
    context.sni_callback = _note_name
    return context


def _note_name(connection: ssl.SSLObject | ssl.SSLSocket, name: str | None, context: ssl.SSLContext) -> None:
    connection.postfixpy_sni = name  # type: ignore[union-attr]  # the object is ours to label


class ScriptedTLS:
    """One TLS connection of a scripted server.

    story   what happened in the handshake, for the recording; "" while it goes on
    failed  whether it failed; the peer is to be hung up on when `output` has been sent
    """

    def __init__(self, step: str, directory: str) -> None:
        context = server_context(step, directory)
        self._input, self._written = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._object = context.wrap_bio(self._input, self._written, server_side=True)
        options = dict(word.split("=", 1) for word in step.split()[1:])
        self._left = int(options["cut"]) if "cut" in options else None
        self.story = ""
        self.failed = False

    def feed(self, data: bytes) -> None:
        """What the client has sent; b"" when it has hung up."""
        if data:
            self._input.write(data)
        else:
            self._input.write_eof()
        if not self.story:
            self._shake()

    def _shake(self) -> None:
        try:
            self._object.do_handshake()
        except ssl.SSLWantReadError:
            return
        except ssl.SSLError as error:
            self.failed = True
            self.story = f"[TLS failed: {error.reason or 'end of input'}]"
            return
        words = [str(self._object.version())]
        name = getattr(self._object, "postfixpy_sni", None)
        words += [f"SNI {name}"] if name else []
        words += ["resumed"] if self._object.session_reused else []
        if self._object.context.verify_mode != ssl.CERT_NONE and self._object.getpeercert(True):
            words.append("client certificate")
        self.story = f"[{', '.join(words)}]"

    def output(self) -> bytes:
        """What is to be sent to the client."""
        data = self._written.read()
        if self._left is not None:
            data = data[: self._left]
            self._left -= len(data)
            self.failed = self.failed or not self._left
        return data

    def read(self) -> bytes:
        """What the client has said, decrypted."""
        out = b""
        try:
            while self.story and not self.failed and (data := self._object.read(_CHUNK)):
                out += data
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLError:
            self.failed = True
        return out

    def write(self, data: bytes) -> None:
        """Say something."""
        if not self.failed:
            self._object.write(data)

    def shut(self) -> None:
        """Say that no more comes (close_notify)."""
        try:
            self._object.unwrap()
        except ssl.SSLError:
            pass  # nobody waits for the client's own
