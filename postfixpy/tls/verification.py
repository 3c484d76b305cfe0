"""What is wrong with a peer's certificate, and how Postfix says so (spec 8.12).

The library is told to go on whatever it finds. The callback keeps the error that is nearest to the peer's own
certificate; errors above it do not matter until that one is mended.
"""

import ctypes

from postfixpy import log

from . import libssl
from .channel import channel_of
from .handshake import Report
from .libssl import Library, Pointer
from .loglevel import VERBOSE

OK = 0
UNSPECIFIED = 1
NOT_YET_VALID, EXPIRED = 9, 10
BAD_NOT_BEFORE, BAD_NOT_AFTER = 13, 14
SELF_SIGNED, SELF_SIGNED_IN_CHAIN = 18, 19
NO_LOCAL_ISSUER = 20
CHAIN_TOO_LONG = 22
INVALID_PURPOSE = 26
UNTRUSTED = 27
HOSTNAME_MISMATCH = 62

_NAME_SIZE = 256
"""Postfix's CCERT_BUFSIZ, the longest name that it shows."""


class Verification:
    """The verification of one peer.

    must_fail   the certificate must not be trusted: what it had to be compared with could not be set up
    server      whether we are the server, and the peer a client
    """

    __slots__ = ("bits", "certificate", "depth", "error", "library", "must_fail", "namaddr", "release", "server")

    def __init__(
        self, library: Library, namaddr: str, bits: int, release: tuple[int, int], server: bool = False
    ) -> None:
        self.library = library
        self.namaddr = namaddr
        self.bits = bits
        self.release = release
        self.server = server
        self.must_fail = False
        self.error = OK
        self.depth = -1
        self.certificate: Pointer | None = None

    def _keep(self, store: Pointer, depth: int, certificate: Pointer | None, error: int) -> None:
        if self.depth >= 0:
            if self.release >= (3, 10):  # a name that does not match yields to anything else
                if (self.depth <= depth and self.error != HOSTNAME_MISMATCH) or error == HOSTNAME_MISMATCH:
                    self.library.X509_STORE_CTX_set_error(store, self.error)
                    return
            elif self.depth <= depth:
                return
        self.free()
        if certificate:
            self.library.X509_up_ref(certificate)
        self.certificate, self.error, self.depth = certificate, error, depth

    def check(self, ok: int, store: Pointer) -> None:
        """One certificate of the chain has been looked at."""
        library = self.library
        certificate = library.X509_STORE_CTX_get_current_cert(store)
        error = library.X509_STORE_CTX_get_error(store)
        depth = library.X509_STORE_CTX_get_error_depth(store)
        if self.must_fail:
            if depth == 0:
                library.X509_STORE_CTX_set_error(store, UNSPECIFIED)
                self._keep(store, depth, certificate, UNSPECIFIED)
            return
        if not ok:
            self._keep(store, depth, certificate, error)
        if self.bits & VERBOSE:
            if certificate:
                subject = name_line(library, library.X509_get_subject_name(certificate))
                log.info(f"{self.namaddr}: depth={depth} verify={ok} subject={subject}")
            elif self.release >= (3, 9):
                if library.X509_STORE_CTX_get0_rpk and library.X509_STORE_CTX_get0_rpk(store):
                    log.info(f"{self.namaddr}: verify={ok} raw public key")
                else:
                    log.info(f"{self.namaddr}: depth={depth} verify={ok}")
            else:
                log.info(f"{self.namaddr}: depth={depth} verify={ok} subject=<unknown>")

    def text(self) -> str:
        """What the library calls the error."""
        return str(self.library.X509_verify_cert_error_string(self.error).decode())

    def tell(self, failure: str = "") -> Report | None:
        """Log the error, if there is one; `failure` is an MTA-STS failure that made it. Returns it for TLSRPT."""
        if self.error == OK:
            return None
        failed = f"certificate verification failed for {self.namaddr}"
        if failure:
            log.info(f"{failed}: external policy failure ({failure})")
            return Report(failure)
        purpose = "CA" if self.depth > 0 else "client" if self.server else "server"
        text = self.text()
        report: Report | None = Report("validation-failure", text.replace(" ", "_"))
        if self.error == UNTRUSTED:
            log.info(f"{failed}: not trusted by local or TLSA policy")
            report = Report("certificate-not-trusted")
        elif self.error == SELF_SIGNED:
            log.info(f"{failed}: self-signed certificate")
        elif self.error in (NO_LOCAL_ISSUER, SELF_SIGNED_IN_CHAIN):
            issuer = "<unknown>"
            if self.certificate:
                issuer = name_line(self.library, self.library.X509_get_issuer_name(self.certificate))
            log.info(f"{failed}: untrusted issuer {issuer}")
        elif self.error in (NOT_YET_VALID, BAD_NOT_BEFORE):
            log.info(f"{purpose} {failed}: certificate not yet valid")
        elif self.error in (EXPIRED, BAD_NOT_AFTER):
            log.info(f"{purpose} {failed}: certificate has expired")
            report = Report("certificate-expired")
        elif self.error == INVALID_PURPOSE:
            log.info(f"{failed}: not designated for use as a {purpose} certificate")
        elif self.error == CHAIN_TOO_LONG:
            log.info(f"{failed}: certificate chain longer than limit({self.depth - 1})")
        else:
            log.info(f"{purpose} {failed}: num={self.error}:{text}")
            report = None
        return report

    def free(self) -> None:
        """Give the certificate back."""
        if self.certificate:
            self.library.X509_free(self.certificate)
            self.certificate = None


def _checked(ok: int, store: Pointer) -> int:
    library = libssl.library()
    ssl = library.X509_STORE_CTX_get_ex_data(store, library.SSL_get_ex_data_X509_STORE_CTX_idx())
    channel = channel_of(ssl)
    if channel is not None and channel.verification is not None:
        channel.verification.check(ok, store)
    return 1


verify_callback = libssl.VERIFY_CALLBACK(_checked)
"""For SSL_CTX_set_verify: goes on whatever is wrong."""


def name_line(library: Library, name: Pointer) -> str:
    """A distinguished name in one line, ``/C=NL/CN=host``, as Postfix cuts and cleans it."""
    buffer = ctypes.create_string_buffer(_NAME_SIZE)
    library.X509_NAME_oneline(name, buffer, _NAME_SIZE)
    return log.printable(buffer.value.decode("utf-8", "surrogateescape"))


COMMON_NAME, ORGANIZATION = 13, 17
"""NID_commonName, NID_organizationName."""


def name_part(library: Library, name: Pointer, nid: int, label: str, namaddr: str) -> str:
    """One part of a distinguished name; "" if it is missing or, with a warning, no decent text."""
    position = library.X509_NAME_get_index_by_NID(name, nid, -1)
    if position < 0:
        return ""
    data = library.X509_NAME_ENTRY_get_data(library.X509_NAME_get_entry(name, position))
    start = f"tls_text_name: {namaddr}: "
    pointer = ctypes.c_void_p()
    size = library.ASN1_STRING_to_UTF8(ctypes.byref(pointer), data)
    if size < 0:
        log.warning(f"{start}error decoding peer {label} of ASN.1 type={library.ASN1_STRING_type(data)}")
        libssl.print_errors(library)
        return ""
    value = libssl.take_string(library, pointer.value, size).rstrip(b"\0")
    if len(value) >= _NAME_SIZE:
        log.warning(f"{start}peer {label} too long: {len(value)}")
        return ""
    if b"\0" in value:
        log.warning(f"{start}NULL character in peer {label}")
        return ""
    if any(byte < 32 or byte == 127 for byte in value):
        log.warning(f"{start}non-printable content in peer {label}")
        return ""
    return value.decode("utf-8", "surrogateescape")


def subject_name(library: Library, certificate: Pointer, namaddr: str) -> str:
    """The common name of a certificate."""
    return name_part(library, library.X509_get_subject_name(certificate), COMMON_NAME, "subject CN", namaddr)


def issuer_name(library: Library, certificate: Pointer, namaddr: str) -> str:
    """The common name of a certificate's issuer, or its organization."""
    name = library.X509_get_issuer_name(certificate)
    return name_part(library, name, COMMON_NAME, "issuer CN", namaddr) or name_part(
        library, name, ORGANIZATION, "issuer Organization", namaddr
    )
