"""The server's side of TLS, for smtpd(8): its context, and one handshake (TLS_README, "SMTP Server specific settings").

    context = server_context(view)              # before the jail; None: no TLS, with Postfix's warnings in the log
    shake = ServerHandshake(ServerRequest(context, "client.example[192.0.2.1]"))
    while (state := shake.step()) is None: ...  # as postfixpy.tls.client

The client's certificate is never a reason for the handshake to fail (smtpd_tls_req_ccert is the caller's to enforce, by
`TLSState.trusted`), as in Postfix.

Differs from Postfix: sessions are resumed by tickets under a key of this process's own, when
smtpd_tls_session_cache_database says that sessions are kept, and no tlsmgr(8) is asked for keys. One process serves
many clients, so that loses only what a restart loses.
"""

import ctypes
from collections.abc import Callable
from ctypes import c_int, c_void_p
from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn

from postfixpy import log
from postfixpy.dns.names import valid_hostname

from . import dane, libssl, options
from .certificates import PEM, ChainLoader, LoadError, PEMError, load_all
from .channel import Channel, channel_of
from .client import FAILED, channel_bindings, peer_chain
from .context import RAW_KEY_OR_CERTIFICATE, Context, load_authorities, load_library, set_groups
from .handshake import HandshakeError, LibraryError, TLSState
from .level import Level
from .loglevel import CACHE, PEERCERT, SUMMARY, UNTRUSTED, VERBOSE, log_mask
from .summary import negotiated
from .verification import OK, Verification, issuer_name, name_line, subject_name, verify_callback

if TYPE_CHECKING:
    from postfixpy.config.view import View

_DH_AUTO, _SESSION_MODE, _MIN_VERSION, _MAX_VERSION = 118, 44, 123, 124
_SERVERNAME_CALLBACK = 53
_PEER, _CLIENT_ONCE = 0x1, 0x4
_DH = 28
_SESSION_ID = b"Postfix/TLS"
_NO_ACKNOWLEDGEMENT, _ACKNOWLEDGED, _FATAL_ALERT = 3, 0, 2
_INTERNAL_ERROR = 80


class ServerContext(Context):
    """The server's side of TLS for one process. `bits` are those of smtpd_tls_loglevel.

    `find_chain` has the key and certificates, PEM, for a name that a client asks for (tls_server_sni_maps), or None;
    it may raise LookupError when it cannot tell.
    """

    bits: int = 0
    find_chain: Callable[[str], bytes | None] | None = None
    bare: "ServerContext | None" = None  # the same without certificates, for a chain that the client's name chooses


def server_context(view: "View", *, mandatory: bool = False, ask: bool = False) -> ServerContext | None:
    """The context that main.cf describes, or None when TLS cannot be used, with Postfix's warnings in the log.

    `mandatory`: TLS is a must, which chooses among the protocol lists; `ask`: ask clients for a certificate.
    """
    bits = log_mask("smtpd_tls_loglevel", view.smtpd_tls_loglevel)
    if bits & VERBOSE:
        log.info("initializing the server-side TLS engine")
    lib = load_library(view)
    if lib is None:
        return None
    text = view.smtpd_tls_mandatory_protocols if mandatory else view.smtpd_tls_protocols
    limits = options.protocols(text, tuple(view.release)[:2])  # type: ignore[arg-type]  # at least two numbers
    if limits is None:
        log.warning(f'Invalid TLS protocol list "{text}": disabling TLS support')
        return None
    digest = view.smtpd_tls_fingerprint_digest
    if dane.digest_algorithm(lib, digest) is None:
        log.warning(f'Digest algorithm "{digest}" not found')
        log.warning("disabling TLS support")
        return None
    try:
        context = _make(view, lib, limits, ask)
        load_all(
            lib,
            context.pointer,
            view.smtpd_tls_chain_files,
            [
                ("RSA", view.smtpd_tls_cert_file, view.smtpd_tls_key_file),
                ("DSA", view.smtpd_tls_dcert_file, view.smtpd_tls_dkey_file),
                ("ECDSA", view.smtpd_tls_eccert_file, view.smtpd_tls_eckey_file),
            ],
        )
        context.bits = bits
        context.bare = _make(view, lib, limits, ask)
    except LoadError:
        return None
    return context


def _make(view: "View", lib: libssl.Library, limits: options.Protocols, ask: bool) -> ServerContext:
    """A context without certificates of its own. Raises LoadError."""
    context = ServerContext(view, lib, view.smtpd_tls_fingerprint_digest, server=True)
    ssl_ctx = context.pointer
    lib.SSL_CTX_set_security_level(ssl_ctx, 0)
    lib.SSL_CTX_set_verify_depth(ssl_ctx, view.smtpd_tls_ccert_verifydepth + 1)
    bits = options.option_bits(view) | options.SSL_OP_IGNORE_UNEXPECTED_EOF | limits.excluded
    resume = bool(view.smtpd_tls_session_cache_database and view.tls_session_ticket_cipher)
    if not resume:
        bits |= options.SSL_OP_NO_TICKET
    if view.tls_preempt_cipherlist:
        bits |= options.SSL_OP_CIPHER_SERVER_PREFERENCE
    lib.SSL_CTX_set_options(ssl_ctx, bits)
    lib.SSL_CTX_ctrl(ssl_ctx, _MIN_VERSION, limits.floor, None)
    lib.SSL_CTX_ctrl(ssl_ctx, _MAX_VERSION, limits.ceiling, None)
    load_authorities(context, view.smtpd_tls_CAfile, view.smtpd_tls_CApath)
    if context.release >= (3, 9) and lib.SSL_CTX_set1_server_cert_type:
        lib.SSL_CTX_set1_server_cert_type(ssl_ctx, RAW_KEY_OR_CERTIFICATE, len(RAW_KEY_OR_CERTIFICATE))
    _set_dh(context, view.smtpd_tls_dh1024_param_file)
    set_groups(context)
    lib.SSL_CTX_set_verify(ssl_ctx, _PEER | _CLIENT_ONCE if ask else 0, verify_callback)
    if ask and view.smtpd_tls_CAfile:
        names = lib.SSL_load_client_CA_file(view.smtpd_tls_CAfile.encode())
        if not names:
            log.warning(f"error loading client CA names from: {view.smtpd_tls_CAfile}")
            libssl.print_errors(lib)
        lib.SSL_CTX_set_client_CA_list(ssl_ctx, names)
    lib.SSL_CTX_set_session_id_context(ssl_ctx, _SESSION_ID, len(_SESSION_ID))
    lib.SSL_CTX_ctrl(ssl_ctx, _SESSION_MODE, 0, None)  # tickets need no store
    lib.SSL_CTX_set_num_tickets(ssl_ctx, 1 if resume else 0)
    lib.SSL_CTX_callback_ctrl(ssl_ctx, _SERVERNAME_CALLBACK, _servername_callback)
    return context


def _set_dh(context: Context, path: str) -> None:
    """Diffie-Hellman parameters: those of a PEM file, or the library's own choice."""
    lib = context.library
    if path and path != "auto":
        problem = f'error decoding DH parameters from file "{path}" -- using compiled-in defaults'
        try:
            with open(path, "rb") as file, PEM(lib, file.read()) as pem:
                found = pem.next()
        except OSError as error:
            log.warning(f'error opening DH parameter file "{path}": {error.strerror} -- using compiled-in defaults')
        except PEMError:
            log.warning(problem)
            libssl.print_errors(lib)
        else:
            kind, data = found or ("", b"")
            buffer = ctypes.create_string_buffer(data, len(data) or 1)
            position = c_void_p(ctypes.addressof(buffer))
            key = None
            if kind == "DH PARAMETERS":
                key = lib.d2i_KeyParams(_DH, None, ctypes.byref(position), len(data))
            if key and lib.SSL_CTX_set0_tmp_dh_pkey(context.pointer, key) > 0:
                return
            if key:
                lib.EVP_PKEY_free(key)
            log.warning(problem)
            libssl.print_errors(lib)
    if lib.SSL_CTX_ctrl(context.pointer, _DH_AUTO, 1, None) <= 0:
        log.warning("error configuring auto DH parameters")
        libssl.print_errors(lib)


def _name_asked(ssl: libssl.Pointer, alert: "ctypes._Pointer[c_int]", _argument: libssl.Pointer) -> int:
    channel = channel_of(ssl)
    shake = _shaking.get(ssl)
    if channel is None or shake is None:
        return _NO_ACKNOWLEDGEMENT
    answer = shake.name_asked()
    if answer == _FATAL_ALERT:
        alert[0] = _INTERNAL_ERROR
    return answer


_servername_callback = libssl.SERVERNAME_CALLBACK(_name_asked)
_shaking: "dict[libssl.Pointer, ServerHandshake]" = {}
"""Handshakes under way, by the address of the SSL object."""


@dataclass(frozen=True, slots=True)
class ServerRequest:
    """One handshake with a client.

    namaddr   the client as the log names it, ``name[address]``
    grade     cipher grade; exclusions: as in smtpd_tls_exclude_ciphers
    required  the client must have a trusted certificate (smtpd_tls_req_ccert)
    raw_key   a raw public key will do (smtpd_tls_enable_rpk)
    """

    context: ServerContext
    namaddr: str
    grade: str = "medium"
    exclusions: str = ""
    required: bool = False
    raw_key: bool = False


class ServerHandshake:
    """One handshake. `channel` carries the session afterwards."""

    def __init__(self, request: ServerRequest) -> None:
        """Raises HandshakeError."""
        self.request = request
        self.context = context = request.context
        self.library = lib = context.library
        self.namaddr = request.namaddr.lower()
        self.bits = bits = context.bits | (UNTRUSTED if request.required else 0)
        self.sni = ""
        if bits & VERBOSE:
            log.info(f"setting up TLS connection from {request.namaddr}")
        self.channel = Channel(lib, context.pointer, server=True, namaddr=self.namaddr, bits=bits)
        self.verification = Verification(lib, self.namaddr, bits, context.release, server=True)
        self.channel.verification = self.verification
        try:
            ciphers = options.cipher_list(context.view, request.grade, request.exclusions)
        except options.CipherError as error:
            self._refuse(f"{self.namaddr}: {error}")
        lib.ERR_clear_error()
        if not lib.SSL_set_cipher_list(self.channel.ssl, ciphers.encode("utf-8", "surrogateescape")):
            self._refuse(f'{self.namaddr}: error setting cipher grade: "{request.grade}"')
        if bits & VERBOSE:
            log.info(f'{request.namaddr}: TLS cipher list "{ciphers}"')
        if request.required:
            lib.SSL_set_security_level(self.channel.ssl, 1)
        if request.raw_key and lib.SSL_set1_client_cert_type and context.release >= (3, 9):
            lib.SSL_set1_client_cert_type(self.channel.ssl, RAW_KEY_OR_CERTIFICATE, len(RAW_KEY_OR_CERTIFICATE))

    def _refuse(self, text: str) -> NoReturn:
        log.warning(text)
        libssl.print_errors(self.library)
        self.channel.free()
        raise HandshakeError(FAILED)

    def name_asked(self) -> int:
        """The client has sent a server name: load the chain for it. The answer is for the library."""
        find = self.context.find_chain
        name = (self.library.SSL_get_servername(self.channel.ssl, 0) or b"").decode("utf-8", "surrogateescape")
        if find is None or not name:
            return _NO_ACKNOWLEDGEMENT
        if not valid_hostname(name):
            log.warning(f"TLS SNI from {self.namaddr} is invalid: {name}")
            return _NO_ACKNOWLEDGEMENT
        if self.sni:  # asked again after a hello retry
            if name == self.sni:
                return _ACKNOWLEDGED
            log.warning(f"TLS SNI changed from {self.namaddr} initially {self.sni}, {name} after hello retry")
            return _NO_ACKNOWLEDGEMENT
        parts = name.split(".")
        try:
            keys = [name, *(f".{'.'.join(parts[n:])}" for n in range(1, len(parts)))]
            chain = next((found for key in keys if (found := find(key)) is not None), None)
        except LookupError:
            log.warning(f"tls_server_sni_maps: {name} map lookup problem")
            return _FATAL_ALERT
        if chain is None:
            log.info(f"TLS SNI {name} from {self.namaddr} not matched, using default chain")
            return _NO_ACKNOWLEDGEMENT
        origin = f"SNI data for {name}"
        try:
            if self.context.bare is not None:
                self.library.SSL_set_SSL_CTX(self.channel.ssl, self.context.bare.pointer)
            ChainLoader(self.library, self.channel.ssl, origin, connection=True).load([(origin, chain)])
        except LoadError:
            return _FATAL_ALERT
        self.sni = name
        return _ACKNOWLEDGED

    def step(self) -> TLSState | None:
        """Go on; the state when it is done. Raises HandshakeError."""
        ssl = self.channel.ssl
        _shaking[ssl] = self
        try:
            if not self.channel.handshake(self.bits):
                return None
        except LibraryError as error:
            self.lost(str(error.status) if self.library.ERR_peek_error() else "lost connection")
        finally:
            del _shaking[ssl]
        return self._done()

    def lost(self, reason: str) -> NoReturn:
        """The connection has failed: "lost connection", or the system's text. Raises HandshakeError."""
        log.info(f"SSL_accept error from {self.request.namaddr}: {reason}")
        libssl.print_errors(self.library)
        raise HandshakeError(FAILED)

    def _done(self) -> TLSState:
        lib, channel = self.library, self.channel
        state = TLSState(Level.ENCRYPT, sni=self.sni)
        state.reused = bool(lib.SSL_session_reused(channel.ssl))
        if state.reused and self.bits & CACHE:
            log.info(f"{self.namaddr}: Reusing old session (RFC 5077 session ticket)")
        certificate = lib.SSL_get1_peer_certificate(channel.ssl)
        if certificate:
            self._certificate(state, certificate)
            lib.X509_free(certificate)
        elif lib.SSL_get0_peer_rpk and (key := lib.SSL_get0_peer_rpk(channel.ssl)):
            state.raw_key = True
            state.key_fingerprint = self.context.fingerprint(libssl.to_der(lib.i2d_PUBKEY, key))
            if self.bits & (VERBOSE | PEERCERT):
                log.info(f"{self.namaddr}: raw public key fingerprint={state.key_fingerprint}")
        state.chain = peer_chain(channel)
        state.error = self.verification.error
        state.error_text = self.verification.text() if state.error else ""
        self.verification.free()
        negotiated(channel, state, self.context.release, server=True)
        state.bindings = channel_bindings(channel, state, None, server=True)
        kind = "Trusted" if state.trusted else "Untrusted" if state.certificate or state.raw_key else "Anonymous"
        name = f" to {self.sni}" if self.sni else ""
        state.line = f"{kind} TLS connection established from {self.namaddr}{name}: {state.summary}"
        if self.bits & SUMMARY:
            log.info(state.line)
        return state

    def _certificate(self, state: TLSState, certificate: libssl.Pointer) -> None:
        lib, namaddr = self.library, self.namaddr
        state.certificate = True
        state.trusted = lib.SSL_get_verify_result(self.channel.ssl) == OK
        if self.bits & VERBOSE:
            log.info(f"subject={name_line(lib, lib.X509_get_subject_name(certificate))}")
            log.info(f"issuer={name_line(lib, lib.X509_get_issuer_name(certificate))}")
        state.subject = subject_name(lib, certificate, namaddr)
        state.issuer = issuer_name(lib, certificate, namaddr)
        key = lib.X509_get0_pubkey(certificate)
        state.fingerprint = self.context.fingerprint(libssl.to_der(lib.i2d_X509, certificate))
        state.key_fingerprint = self.context.fingerprint(libssl.to_der(lib.i2d_PUBKEY, key)) if key else ""
        if self.bits & (VERBOSE | PEERCERT):
            prints = f"cert fingerprint={state.fingerprint}, pkey fingerprint={state.key_fingerprint}"
            log.info(f"{namaddr}: subject_CN={state.subject}, issuer={state.issuer}, {prints}")
        if not state.trusted and self.bits & UNTRUSTED:
            if state.reused:
                text = "re-using session with untrusted certificate, look for details earlier in the log"
                log.info(f"{namaddr}: {text}")
            else:
                self.verification.tell()
