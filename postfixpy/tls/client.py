"""The client's side of a handshake: from a `TLSRequest` to a `TLSState` (spec 8.12), without input and output.

    shake = ClientHandshake(request)            # may fail at once: a request that cannot be carried out
    while (state := shake.step()) is None:
        send(shake.channel.output()); shake.channel.feed(receive())     # or shake.lost("lost connection")

Whoever drives it sends `channel.output()` in any case, also when `step` raises: an alert tells the peer why.
"""

import ctypes
from ctypes import c_int, c_uint, c_void_p
from typing import NoReturn

from postfixpy import log

from . import dane, libssl, options
from .channel import Channel
from .context import RAW_KEY_OR_CERTIFICATE
from .handshake import HandshakeError, LibraryError, Report, TLSRequest, TLSState
from .level import Level
from .loglevel import CACHE, CERTMATCH, DEBUG, PEERCERT, SUMMARY, UNTRUSTED, VERBOSE
from .summary import negotiated
from .verification import HOSTNAME_MISMATCH, OK, Verification, issuer_name, subject_name

_SET_TLSEXT_HOSTNAME = 55
_SET_MIN_VERSION, _SET_MAX_VERSION = 123, 124
_NO_PARTIAL_WILDCARDS = 0x4
_NO_EE_NAME_CHECKS = 1
_MAX_SNI = 255
_DETAILS = CERTMATCH | VERBOSE | PEERCERT
_FULL_STOPS = ("。", "．", "｡")
"""What IDNA2003 takes for a dot."""

FAILED = "Cannot start TLS: handshake failure"


class ClientHandshake:
    """One handshake. `channel` carries the session afterwards."""

    def __init__(self, request: TLSRequest) -> None:
        """Raises HandshakeError."""
        self.request = request
        self.context = context = request.context
        self.library = context.library
        self.namaddr = request.namaddr.lower()
        self.bits = bits = request.log | (UNTRUSTED if request.level.must_match else 0)
        self.level = request.level
        self.sni = ""
        if bits & VERBOSE:
            log.info(f"setting up TLS connection to {request.namaddr}")
        limits = options.protocols(request.protocols, context.release)
        if limits is None:
            self._refuse(f'{request.namaddr}: Invalid TLS protocol list "{request.protocols}": aborting TLS session')
        excluded = limits.excluded | (options.WITHOUT_SSL3 if request.level.dane_based else 0)
        self.channel = Channel(self.library, context.pointer, server=False, namaddr=self.namaddr, bits=bits)
        self.verification = Verification(self.library, self.namaddr, bits, context.release)
        self.channel.verification = self.verification
        try:
            self._set_ciphers()
            self.library.SSL_set_options(self.channel.ssl, excluded)
            self._set_version("min", _SET_MIN_VERSION, limits.floor)
            self._set_version("max", _SET_MAX_VERSION, limits.ceiling)
            self._authentication()
            self._tlsa()
        except HandshakeError:
            self.channel.free()
            raise
        if self.level.must_match:
            self.library.SSL_set_security_level(self.channel.ssl, 1)
        self._resume()
        if request.failure:
            self.verification.must_fail = True

    def _refuse(self, text: str, errors: bool = False) -> NoReturn:
        """What is wrong is ours: no report."""
        log.warning(text)
        if errors:
            libssl.print_errors(self.library)
        raise HandshakeError(FAILED)

    def _set_version(self, which: str, control: int, version: int) -> None:
        if self.library.SSL_ctrl(self.channel.ssl, control, version, None):
            return
        if version:
            log.warning(f"{self.namaddr}: error setting {which}imum TLS version to: 0x{version:04x}")
        else:
            log.warning(f"{self.namaddr}: error clearing {which}imum TLS version")

    def _set_ciphers(self) -> None:
        request = self.request
        try:
            ciphers = options.cipher_list(self.context.view, request.grade, request.exclusions)
        except options.CipherError as error:
            self._refuse(f"{self.namaddr}: {error}")
        self.library.ERR_clear_error()
        if not self.library.SSL_set_cipher_list(self.channel.ssl, ciphers.encode("utf-8", "surrogateescape")):
            self._refuse(f'{self.namaddr}: error setting cipher grade: "{request.grade}"', errors=True)
        if self.bits & VERBOSE:
            log.info(f'{request.namaddr}: TLS cipher list "{ciphers}"')

    def _authentication(self) -> None:
        """What the certificate is to be compared with, and the name that we send."""
        request, lib, ssl = self.request, self.library, self.channel.ssl
        sni = _a_label(request.sni)
        if self.level.dane_based:
            self._enable_dane(f"{self.namaddr}: error enabling DANE-based certificate validation")
            sni = request.base
            self._names()
        elif self.level == Level.FINGERPRINT:
            self._enable_dane(f"{request.namaddr}: error enabling fingerprint certificate validation")
        elif self.level >= Level.VERIFY:
            if request.tlsa is not None and lib.SSL_dane_enable(ssl, None) <= 0:
                self._refuse(f"{request.namaddr}: error configuring local trust anchors", errors=True)
            self._names()
        if not sni:
            return
        name = sni.encode("utf-8", "surrogateescape")
        if len(name) > _MAX_SNI:
            self._refuse(f"{request.namaddr}: ignoring too long SNI hostname: {sni[:100]}")
        if not lib.SSL_ctrl(ssl, _SET_TLSEXT_HOSTNAME, 0, name):
            self._refuse(f"{request.namaddr}: error setting SNI hostname to: {sni}")
        self.sni = sni
        if self.bits & DEBUG:
            log.info(f"{request.namaddr}: SNI hostname: {sni}")

    def _enable_dane(self, problem: str) -> None:
        if self.library.SSL_dane_enable(self.channel.ssl, None) <= 0:
            self._refuse(problem, errors=True)
        self.library.SSL_dane_set_flags(self.channel.ssl, _NO_EE_NAME_CHECKS)

    def _names(self) -> None:
        lib, ssl = self.library, self.channel.ssl
        lib.SSL_set_hostflags(ssl, _NO_PARTIAL_WILDCARDS)
        add = lib.SSL_add1_dnsname or lib.SSL_add1_host
        count = 0
        for name in self.request.names:
            if name == ".":
                log.warning(f'{self.namaddr}: ignoring invalid match name: "."')
                continue
            below = name.startswith((".", *_FULL_STOPS)) and len(name) > 1
            name = _a_label(name[1:] if below else name)
            if below:
                name = f".{name}"
            if name and "\0" not in name and add(ssl, name.encode("utf-8", "surrogateescape")):
                count += 1
            else:
                log.warning(f'{self.namaddr}: error loading match name: "{name}"')
        if not count:
            log.warning(f"{self.namaddr}: could not configure peer name checks")
            self.verification.must_fail = True

    def _tlsa(self) -> None:
        """Give the TLSA records to the library. None that it can use changes the level, or fails all certificates."""
        request, lib = self.request, self.library
        enable = lib.SSL_set1_server_cert_type if self.context.release >= (3, 9) else None
        if request.raw_key and enable and request.level in (Level.MAY, Level.ENCRYPT, Level.FINGERPRINT):
            self._ask_raw_key()
        if request.tlsa is None or not request.level.must_match:
            return
        usable, keys_only = dane.add_records(self.channel, request.tlsa)
        if usable > 0 and keys_only and enable:
            self._ask_raw_key()
        must_fail = usable <= 0
        if usable == 0:
            what, kind, then = "TLSA records", "tlsa-invalid", ""
            if self.level == Level.FINGERPRINT:
                what, kind = "fingerprints", "validation-failure"
            elif not self.level.dane_based:
                what, kind = "trust anchors", "validation-failure"
            elif self.level != Level.DANE_ONLY:
                self.level = Level.ENCRYPT
                must_fail, then = False, ", fallback to unauthenticated TLS"
            if request.tell is not None:
                request.tell(Report(kind, f"all-{what.replace(' ', '-')}-unusable"))
            log.warning(f"{self.namaddr}: all {what} unusable{then}")
        self.verification.must_fail |= must_fail

    def _ask_raw_key(self) -> None:
        if not self.library.SSL_set1_server_cert_type(self.channel.ssl, RAW_KEY_OR_CERTIFICATE, 2):
            log.warning("Failed to enable server to client raw public key support")
            libssl.print_errors(self.library)

    def _resume(self) -> None:
        """Offer the earlier session, and see to it that the new one is kept."""
        request, lib = self.request, self.library
        if not request.session_id:
            return
        told = self.bits & CACHE
        if told:
            log.info(f"looking for session {request.session_id} in {request.cache} cache")
        if request.session:
            buffer = ctypes.create_string_buffer(request.session, len(request.session))
            position = c_void_p(ctypes.addressof(buffer))
            session = lib.d2i_SSL_SESSION(None, ctypes.byref(position), len(request.session))
            if session:
                if told:
                    log.info(f"reloaded session {request.session_id} from {request.cache} cache")
                lib.SSL_set_session(self.channel.ssl, session)
                lib.SSL_SESSION_free(session)
            else:
                libssl.print_errors(lib)

    # The handshake itself

    def step(self) -> TLSState | None:
        """Go on; the state when it is done. Raises HandshakeError."""
        try:
            if not self.channel.handshake(self.bits):
                return None
        except LibraryError as error:
            self._failed(str(error.status) if self.library.ERR_peek_error() else "lost connection")
        return self._done()

    def lost(self, reason: str) -> NoReturn:
        """The connection has failed: "lost connection", or the system's text. Raises HandshakeError."""
        self._failed(reason)

    def _failed(self, reason: str) -> NoReturn:
        request = self.request
        log.info(f"SSL_connect error to {request.namaddr}: {reason}")
        libssl.print_errors(self.library)
        if request.session_id and self.bits & CACHE:
            log.info(f"remove session {request.session_id} from client cache")
        raise HandshakeError(FAILED, Report("validation-failure", "tls-handshake-failure"))

    def _done(self) -> TLSState:
        request, lib, channel = self.request, self.library, self.channel
        state = TLSState(self.level, sni=self.sni)
        if request.session_id:
            self._keep_sessions(state)
        state.reused = bool(lib.SSL_session_reused(channel.ssl))
        if state.reused and self.bits & CACHE:
            log.info(f"{self.namaddr}: Reusing old session")
        certificate = lib.SSL_get1_peer_certificate(channel.ssl)
        try:
            if certificate:
                self._certificate(state, certificate)
            elif lib.SSL_get0_peer_rpk and (key := lib.SSL_get0_peer_rpk(channel.ssl)):
                self._raw_key(state, key)
            negotiated(channel, state, self.context.release)
            state.bindings = channel_bindings(channel, state, certificate)
        finally:
            if certificate:
                lib.X509_free(certificate)
        state.chain = peer_chain(channel)
        state.error = self.verification.error
        state.error_text = self.verification.text() if state.error else ""
        self.verification.free()
        kind = "Untrusted"
        if not (state.certificate or state.raw_key):
            kind = "Anonymous"
        elif state.secured:
            kind = "Verified"
        elif state.trusted:
            kind = "Trusted"
        state.line = f"{kind} TLS connection established to {self.namaddr}: {state.summary}"
        if self.bits & SUMMARY:
            log.info(state.line)
        return state

    def _keep_sessions(self, state: TLSState) -> None:
        """Put sessions into the state as they arrive. Postfix keeps the first one since 3.11, before that the last."""
        request, channel = self.request, self.channel
        first_only = self.context.release >= (3, 11)

        def arrived() -> None:
            if first_only and state.session:
                return
            state.session = channel.session
            if self.bits & CACHE:
                log.info(f"save session {request.session_id} to {request.cache} cache")

        channel.on_session = arrived
        if channel.session:
            arrived()

    def _certificate(self, state: TLSState, certificate: libssl.Pointer) -> None:
        lib, namaddr = self.library, self.namaddr
        state.certificate = True
        state.fingerprint = self.context.fingerprint(libssl.to_der(lib.i2d_X509, certificate))
        key = lib.X509_get0_pubkey(certificate)
        state.key_fingerprint = self.context.fingerprint(libssl.to_der(lib.i2d_PUBKEY, key)) if key else ""
        state.issuer = issuer_name(lib, certificate, namaddr)
        peername = lib.SSL_get0_peername(self.channel.ssl)
        state.subject = subject_name(lib, certificate, namaddr) or (peername or b"").decode("utf-8", "surrogateescape")
        if self.request.watch:
            name = _a_label(self.request.watch).encode("utf-8", "surrogateescape")
            state.named = lib.X509_check_host(certificate, name, len(name), _NO_PARTIAL_WILDCARDS, None) == 1
        self._verdict(state, peername)
        if self.bits & _DETAILS:
            if self.context.release >= (3, 9):
                text = f"{namaddr}: subject_CN={state.subject}, issuer={state.issuer}"
                text += f", cert fingerprint={state.fingerprint}" if state.fingerprint else ""
                text += f", pkey fingerprint={state.key_fingerprint}" if state.key_fingerprint else ""
            else:
                text = f"{self.request.namaddr}: subject_CN={state.subject}, issuer_CN={state.issuer}, "
                text += f"fingerprint={state.fingerprint}, pkey_fingerprint={state.key_fingerprint}"
            log.info(text)

    def _raw_key(self, state: TLSState, key: libssl.Pointer) -> None:
        state.raw_key = True
        state.key_fingerprint = self.context.fingerprint(libssl.to_der(self.library.i2d_PUBKEY, key))
        if self.bits & _DETAILS:
            log.info(f"{self.request.namaddr}: raw public key fingerprint={state.key_fingerprint}")
        self._verdict(state, None)

    def _verdict(self, state: TLSState, peername: bytes | None) -> None:
        """Whether what the server sent is trusted, and matches."""
        result = self.library.SSL_get_verify_result(self.channel.ssl)
        if result == OK and not self.verification.must_fail:
            state.trusted = True
            if self.level.must_match:
                state.matched = True
                state.secured = self.level != Level.HALFDANE
                if self.bits & _DETAILS:
                    if peername and state.certificate:
                        log.info(f"{self.namaddr}: matched peername: {peername.decode('utf-8', 'replace')}")
                    dane.tell_match(self.channel, self.level)
        elif self.level.must_match and result == HOSTNAME_MISMATCH and self.context.release >= (3, 10):
            state.trusted = state.certificate
        if not state.matched and self.bits & UNTRUSTED:
            if not state.reused:
                report = self.verification.tell(self.request.failure)
                state.report = report
            else:
                what = "peer credential" if self.context.release >= (3, 9) and state.certificate else "certificate"
                text = f"re-using session with untrusted {what}, look for details earlier in the log"
                log.info(f"{self.request.namaddr}: {text}")


def _a_label(name: str) -> str:
    """A name in ASCII if it can be said so, else as it is."""
    if name.isascii():
        return name
    from postfixpy.dns.names import to_ascii

    return to_ascii(name) or name


def peer_chain(channel: Channel) -> list[bytes]:
    """The certificates that the peer of a client sent, DER."""
    lib = channel.library
    stack = lib.SSL_get_peer_cert_chain(channel.ssl)
    if not stack:
        return []
    return [libssl.to_der(lib.i2d_X509, lib.OPENSSL_sk_value(stack, n)) for n in range(lib.OPENSSL_sk_num(stack))]


_FINISHED_SIZE, _EXPORTER_SIZE = 64, 32
_MD5, _SHA1, _SHA256 = 4, 64, 672
_EXPORTER_LABEL = b"EXPORTER-Channel-Binding"


def channel_bindings(
    channel: Channel, state: TLSState, certificate: libssl.Pointer | None, *, server: bool = False
) -> dict[str, bytes]:
    """The channel bindings that SASL may use (RFC 5929, RFC 9266); `certificate` is what the server has sent."""
    lib, ssl = channel.library, channel.ssl
    found: dict[str, bytes] = {}
    buffer = ctypes.create_string_buffer(_FINISHED_SIZE)
    if state.protocol not in ("TLSv1.3", "SSLv3"):
        # The first Finished message: the client's in a full handshake, the server's when a session is resumed.
        get = lib.SSL_get_finished if server == state.reused else lib.SSL_get_peer_finished
        size = get(ssl, buffer, _FINISHED_SIZE)
        if size:
            found["tls-unique"] = buffer.raw[:size]
    if (
        lib.SSL_export_keying_material(ssl, buffer, _EXPORTER_SIZE, _EXPORTER_LABEL, len(_EXPORTER_LABEL), b"", 0, 1)
        == 1
    ):
        found["tls-exporter"] = buffer.raw[:_EXPORTER_SIZE]
    if certificate:
        digest = c_int()
        unused = [ctypes.byref(part) for part in (c_int(), c_int(), c_uint())]
        if lib.X509_get_signature_info(certificate, ctypes.byref(digest), *unused) and digest.value:
            number = _SHA256 if digest.value in (_MD5, _SHA1) else digest.value
            algorithm = lib.EVP_get_digestbyname(lib.OBJ_nid2sn(number))
            value = dane.digest(lib, algorithm, libssl.to_der(lib.i2d_X509, certificate)) if algorithm else None
            if value:
                found["tls-server-end-point"] = value
    lib.ERR_clear_error()
    return found
