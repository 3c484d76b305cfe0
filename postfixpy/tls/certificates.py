"""Loading our own certificates and keys, in every form that Postfix takes, with its warnings (TLS_README).

* ``chain_files``: for each key its PEM object first, then its certificate, then that one's issuers; over one or several
  files.
* a file that holds certificate and key: the key anywhere in it.
* a certificate file and a key file.
"""

import ctypes
import os
from collections.abc import Iterable
from ctypes import c_long, c_void_p
from typing import NamedTuple

from postfixpy import log

from . import libssl
from .libssl import Library, Pointer

_RSA, _DSA, _EC, _ANY = 6, 116, 408, 0
_KEYS = {"PRIVATE KEY": _ANY, "RSA PRIVATE KEY": _RSA, "EC PRIVATE KEY": _EC, "DSA PRIVATE KEY": _DSA}
_CERTIFICATES = ("CERTIFICATE", "X509 CERTIFICATE")
_NO_START_LINE = 108
_REASON = 0x7FFFFF
_PEM_FORMAT = 1


class LoadError(Exception):
    """Certificates or keys cannot be used; the warning has been logged."""


class PEMError(Exception):
    """Text that is no PEM; the reason is on the library's error stack."""


class PEM:
    """The objects of PEM text, one after the other: name and content."""

    def __init__(self, library: Library, text: bytes) -> None:
        self.library = library
        self._text = text  # BIO_new_mem_buf copies nothing
        self._bio = library.BIO_new_mem_buf(text, len(text))

    def __enter__(self) -> "PEM":
        return self

    def __exit__(self, *unused: object) -> None:
        self.library.BIO_free(self._bio)

    def next(self) -> tuple[str, bytes] | None:
        """The next object, None at the end. Raises PEMError."""
        lib = self.library
        name, header, data = c_void_p(), c_void_p(), c_void_p()
        size = c_long()
        arguments = [ctypes.byref(part) for part in (name, header, data, size)]
        if not lib.PEM_read_bio(self._bio, *arguments):
            if lib.ERR_peek_last_error() & _REASON != _NO_START_LINE:
                raise PEMError
            lib.ERR_clear_error()
            return None
        kind = libssl.take_string(lib, name.value).decode("utf-8", "replace")
        libssl.take_string(lib, header.value)
        return kind, libssl.take_string(lib, data.value, size.value)


class ChainLoader:
    """Loads keys and chains into an SSL_CTX (or into an SSL object, for SNI).

    `origin` is what texts call the whole; `mixed`: one file, the key anywhere in it.
    """

    def __init__(
        self, library: Library, context: Pointer, origin: str, *, mixed: bool = False, connection: bool = False
    ) -> None:
        self.library = library
        self.context = context
        self.origin = origin
        self.mixed = mixed
        self.connection = connection
        self.key: Pointer | None = None
        self.certificate: Pointer | None = None
        self.chain: list[Pointer] = []
        self.number = 0  # of the object in the source
        self.key_number, self.key_source = 0, ""

    def load(self, sources: Iterable[tuple[str, bytes | None]]) -> None:
        """Load all of `sources`, names with their texts. Raises LoadError.

        A text that is None ends it without an error, as a chain file that cannot be opened does in Postfix: what came
        before it is used as far as it was complete.
        """
        self.library.ERR_clear_error()
        try:
            for source, text in sources:
                if text is None:
                    return
                self.number = 0
                with PEM(self.library, text) as pem:
                    while (found := pem.next()) is not None:
                        self.number += 1
                        self._object(source, *found)
            self._finish()
        except (LoadError, PEMError):
            libssl.print_errors(self.library)
            end = "aborting TLS handshake" if self.connection else "disabling TLS support"
            log.warning(f"error loading private keys and certificates from: {self.origin}: {end}")
            raise LoadError from None
        finally:
            self._forget()

    def _fail(self, text: str) -> None:
        log.warning(text)
        raise LoadError

    def _object(self, source: str, kind: str, data: bytes) -> None:
        if kind in _CERTIFICATES:
            self._take_certificate(source, data)
        elif kind in _KEYS:
            self._take_key(source, _KEYS[kind], data)
        elif not self.mixed:
            log.warning(f"loading {source}: ignoring PEM type: {kind}")

    def _take_certificate(self, source: str, data: bytes) -> None:
        certificate, rest = self._decode(self.library.d2i_X509, data)
        if not self.mixed and self.key is None:
            if certificate:
                self.library.X509_free(certificate)
            self._fail(f"error loading chain from {source}: key not first")
        what = f"error loading certificate (PEM object number {self.number}) from {source}"
        if not certificate:
            self._fail(what)
        if rest:
            self.library.X509_free(certificate)
            self._fail(f"{what}: excess data")
        if self.certificate is None:
            self.certificate = certificate
        else:
            assert certificate is not None
            self.chain.append(certificate)

    def _take_key(self, source: str, kind: int, data: bytes) -> None:
        key, rest = self._key(kind, data)
        if self.mixed and self.key is not None:
            self.library.EVP_PKEY_free(key)
            log.warning(f"ignoring 2nd key at index {self.number} in {source} after 1st at {self.key_number}")
            return
        if not self.mixed and self.key is not None:
            if self.certificate is None:
                self.library.EVP_PKEY_free(key)
                text = f"key at index {self.key_number} in {self.key_source} not followed by a certificate"
                self._fail(f"error loading certificate chain: {text}")
            if not self._use():
                self.library.EVP_PKEY_free(key)
                text = f"key at index {self.key_number} in {self.key_source} does not match the certificate"
                self._fail(f"error loading certificate chain: {text}")
        what = f"error loading private key (PEM object number {self.number}) from {source}"
        if not key:
            self._fail(what)
        if rest:
            self.library.EVP_PKEY_free(key)
            self._fail(f"{what}: excess data")
        self.key = key
        self.key_number, self.key_source = self.number, source

    def _decode(self, decoder: object, data: bytes, *first: object) -> tuple[Pointer | None, int]:
        """What a ``d2i_`` function makes of `data`, and how many bytes it left."""
        buffer = ctypes.create_string_buffer(data, len(data))
        start = ctypes.addressof(buffer)
        position = c_void_p(start)
        found = decoder(*first, None, ctypes.byref(position), len(data))  # type: ignore[operator]  # a ctypes function
        return found, len(data) - ((position.value or start) - start)

    def _key(self, kind: int, data: bytes) -> tuple[Pointer | None, int]:
        if kind != _ANY:
            return self._decode(self.library.d2i_PrivateKey, data, kind)
        wrapped, rest = self._decode(self.library.d2i_PKCS8_PRIV_KEY_INFO, data)
        if not wrapped:
            return None, rest
        key = self.library.EVP_PKCS82PKEY(wrapped)
        self.library.PKCS8_PRIV_KEY_INFO_free(wrapped)
        return key, rest

    def _use(self) -> bool:
        """Give the present key and chain to the library, and forget them."""
        lib = self.library
        stack = None
        if self.chain:
            stack = lib.OPENSSL_sk_new_null()
            for certificate in self.chain:
                lib.OPENSSL_sk_push(stack, certificate)
        use = lib.SSL_use_cert_and_key if self.connection else lib.SSL_CTX_use_cert_and_key
        done: bool = use(self.context, self.certificate, self.key, stack, 0) == 1
        if stack is not None:
            lib.OPENSSL_sk_free(stack)
        self._forget()
        return done

    def _finish(self) -> None:
        if self.certificate is None and self.key is None:
            self._fail(f"No PEM data in {self.origin}")
        if self.certificate is None:
            self._fail(f"No certs for key at index {self.key_number} in {self.key_source}")
        if self.key is None:
            self._fail(f"No private key found in {self.origin}")
        if not self._use():
            self._fail(f"key at index {self.key_number} in {self.key_source} does not match next certificate")

    def _forget(self) -> None:
        for certificate in [self.certificate, *self.chain]:
            if certificate:
                self.library.X509_free(certificate)
        if self.key:
            self.library.EVP_PKEY_free(self.key)
        self.key = self.certificate = None
        self.chain = []


def _read(path: str) -> bytes | None:
    """The content of a file, or None after a warning."""
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        log.warning(f"error opening chain file: {path}: {error.strerror}")
        return None


def load_chain_files(library: Library, context: Pointer, names: str) -> None:
    """Load the files of a ``chain_files`` parameter. Raises LoadError."""
    paths = names.replace(",", " ").split()
    if paths:
        ChainLoader(library, context, names).load((path, _read(path)) for path in paths)


def load_pair(library: Library, context: Pointer, kind: str, certificate_file: str, key_file: str) -> None:
    """Load a certificate with its chain and its key; `kind` is RSA, DSA or ECDSA, for texts. Raises LoadError."""
    if certificate_file == key_file:
        text = _read(certificate_file)
        if text is None:
            raise LoadError
        ChainLoader(library, context, certificate_file, mixed=True).load([(certificate_file, text)])
        return
    library.ERR_clear_error()
    if library.SSL_CTX_use_certificate_chain_file(context, os.fsencode(certificate_file)) <= 0:
        log.warning(f'cannot get {kind} certificate from file "{certificate_file}": disabling TLS support')
        libssl.print_errors(library)
        raise LoadError
    if library.SSL_CTX_use_PrivateKey_file(context, os.fsencode(key_file), _PEM_FORMAT) <= 0:
        log.warning(f'cannot get {kind} private key from file "{key_file}": disabling TLS support')
        libssl.print_errors(library)
        raise LoadError
    if not library.SSL_CTX_check_private_key(context):
        problem = f"{kind} private key in {key_file} does not match public key in {certificate_file}"
        log.warning(f"{problem}: disabling TLS support")
        raise LoadError


def load_all(library: Library, context: Pointer, chain_files: str, pairs: list[tuple[str, str, str]]) -> None:
    """Load `chain_files` or, if that is empty, `pairs` of kind, certificate file and key file. Raises LoadError."""
    if chain_files:
        load_chain_files(library, context, chain_files)
        return
    for kind, certificate_file, key_file in pairs:
        if certificate_file:
            load_pair(library, context, kind, certificate_file, key_file)


class Description(NamedTuple):
    """A certificate for people: the names of its subject and its issuer in one line, its public key in DER."""

    subject: str
    issuer: str
    key: bytes


def describe(library: Library, der: bytes) -> Description:
    """What a certificate in DER says of itself. Raises ValueError if it is none."""
    from .verification import name_line

    buffer = ctypes.create_string_buffer(der, len(der))
    certificate = library.d2i_X509(None, ctypes.byref(c_void_p(ctypes.addressof(buffer))), len(der))
    if not certificate:
        library.ERR_clear_error()
        raise ValueError("no certificate")
    try:
        subject, issuer = library.X509_get_subject_name(certificate), library.X509_get_issuer_name(certificate)
        key = library.X509_get0_pubkey(certificate)
        public = libssl.to_der(library.i2d_PUBKEY, key) if key else b""
        return Description(name_line(library, subject), name_line(library, issuer), public)
    finally:
        library.X509_free(certificate)
