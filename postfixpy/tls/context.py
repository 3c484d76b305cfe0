"""What a TLS process loads once, before it enters its jail: certificates, keys, CAs, options (spec 8.1).

A client's context is made by `client_context`, a server's by postfixpy.tls.server. Where TLS cannot be used the answer
is None and the log has Postfix's warnings, the last ending in ``disabling TLS support``.

The library's own configuration file is read when the process first uses the library, which Python may have done
before us. So ``tls_config_file = none`` and a file of one's own replace what was read, instead of keeping it from
being read. And no seed is asked of tlsmgr(8): the library has the kernel's.
"""

import os
from typing import TYPE_CHECKING

from postfixpy import log

from . import dane, libssl, options
from .certificates import LoadError, load_all
from .channel import new_session_callback
from .libssl import Library, Pointer
from .loglevel import VERBOSE, log_mask
from .verification import verify_callback

if TYPE_CHECKING:
    from postfixpy.config.view import View

_SET_GROUPS, _SET_GROUPS_LIST = 91, 92
_SET_SESSION_CACHE_MODE = 44
_CLIENT_SESSIONS = 0x1 | 0x80 | 0x200  # SSL_SESS_CACHE_CLIENT, NO_AUTO_CLEAR, NO_INTERNAL_STORE
RAW_KEY_OR_CERTIFICATE = b"\x02\x00"
"""TLSEXT_cert_type_rpk, TLSEXT_cert_type_x509: what is wanted first."""
_SESSION_LIFETIME = 14 * 86400
"""Sessions live as long as the cache keeps them; the library must not be the one to forget."""


class Context:
    """An SSL_CTX with what it was made from.

    view        the configuration, for cipher lists
    release     of the configuration
    digest      name of the fingerprint digest
    """

    def __init__(self, view: "View", library: Library, digest: str, *, server: bool = False) -> None:
        self.view = view
        self.library = library
        self.release: tuple[int, int] = tuple(view.release)[:2]  # type: ignore[assignment]  # at least two numbers
        self.digest = digest
        library.ERR_clear_error()
        method = library.TLS_server_method() if server else library.TLS_client_method()
        self.pointer: Pointer = library.SSL_CTX_new(method)
        if not self.pointer:
            raise MemoryError("SSL_CTX_new")

    def __del__(self) -> None:
        pointer = getattr(self, "pointer", None)
        if pointer:
            self.pointer = 0
            self.library.SSL_CTX_free(pointer)

    def fingerprint(self, data: bytes) -> str:
        """The digest of `data` as fingerprints are shown, ``AB:CD:...``."""
        algorithm = self.library.EVP_get_digestbyname(self.digest.encode())
        value = dane.digest(self.library, algorithm, data) if algorithm else None
        return value.hex(":").upper() if value else ""


class ClientContext(Context):
    """The client's side of TLS for one process."""


_configured = ("default", "")
"""What the process has loaded: tls_config_file and tls_config_name."""


def load_library(view: "View") -> Library | None:
    """The library, with the configuration file that tls_config_file and tls_config_name want."""
    global _configured
    lib = libssl.available()
    if lib is None:
        return None
    file, name = view.tls_config_file or "default", view.tls_config_name
    if (file, name) == _configured:
        return lib
    flags = 0
    path: bytes | None = None
    if file == "default":
        flags = 0x2 | 0x4 | 0x10 | 0x20  # whatever is wrong with it does not matter; the section may be the default
    elif file.startswith("/"):
        path = os.fsencode(file)
    elif file != "none":
        log.warning(f"non-default tls_config_file = {file} is not an absolute pathname, disabling TLS support")
        return None
    lib.ERR_clear_error()
    lib.CONF_modules_unload(0)  # not the built-in modules: what is loaded next may want them
    _configured = (file, name)
    if file == "none":
        return lib
    if lib.CONF_modules_load_file(path, name.encode() or None, flags) <= 0 and path is not None:
        _configured = ("", "")
        what = f"'{name or 'global'}' settings from the {file} OpenSSL configuration file"
        log.warning(f"error loading the {what}, disabling TLS support")
        libssl.print_errors(lib)
        return None
    return lib


def client_context(view: "View") -> ClientContext | None:
    """The context that main.cf describes, or None when TLS cannot be used, with Postfix's warnings in the log.

    Asks for ``smtp_tls_CAfile``, ``smtp_tls_CApath``, ``smtp_tls_chain_files``, ``smtp_tls_cert_file`` and its kin,
    ``smtp_tls_scert_verifydepth``, ``smtp_tls_fingerprint_digest``, ``smtp_tls_loglevel`` (in LMTP mode their mirrors)
    and the ``tls_*`` parameters. Call it when TLS may be needed at all (spec 8.1).
    """
    from . import client  # noqa: F401  # what handshakes need, as long as the files can be seen

    parameter = view.parameter("smtp_tls_loglevel")
    bits = log_mask(parameter.name if parameter is not None else "smtp_tls_loglevel", view.smtp_tls_loglevel)
    if bits & VERBOSE:
        log.info("initializing the client-side TLS engine")
    lib = load_library(view)
    if lib is None:
        return None
    digest = view.smtp_tls_fingerprint_digest
    algorithm = dane.digest_algorithm(lib, digest)
    if algorithm is None:
        log.warning(f'Digest algorithm "{digest}" not found')
        log.warning("disabling TLS support")
        return None
    context = ClientContext(view, lib, digest)
    ssl_ctx = context.pointer
    lib.SSL_CTX_set_security_level(ssl_ctx, 0)
    lib.SSL_CTX_set_verify_depth(ssl_ctx, view.smtp_tls_scert_verifydepth + 1)
    if lib.SSL_CTX_dane_enable(ssl_ctx) <= 0:
        log.warning("OpenSSL DANE initialization failed: disabling TLS support")
        libssl.print_errors(lib)
        return None
    dane.set_digests(lib, ssl_ctx, view.tls_dane_digests, algorithm)
    bits = options.option_bits(view)
    if context.release >= (3, 5):  # since 3.8, and in later patch releases of 3.5 to 3.7
        bits |= options.SSL_OP_IGNORE_UNEXPECTED_EOF
    lib.SSL_CTX_set_options(ssl_ctx, bits)
    pairs = [
        ("RSA", view.smtp_tls_cert_file, view.smtp_tls_key_file),
        ("DSA", view.smtp_tls_dcert_file, view.smtp_tls_dkey_file),
        ("ECDSA", view.smtp_tls_eccert_file, view.smtp_tls_eckey_file),
    ]
    try:
        load_authorities(context, view.smtp_tls_CAfile, view.smtp_tls_CApath)
        load_all(lib, ssl_ctx, view.smtp_tls_chain_files, pairs)
    except LoadError:
        return None
    if (
        context.release >= (3, 9)
        and lib.SSL_CTX_set1_client_cert_type
        and lib.SSL_CTX_get0_certificate(ssl_ctx)
        and lib.SSL_CTX_get0_privatekey(ssl_ctx)
        and not lib.SSL_CTX_set1_client_cert_type(ssl_ctx, RAW_KEY_OR_CERTIFICATE, 2)
    ):
        log.warning("Failed to enable client to server raw public key support")
        libssl.print_errors(lib)
    set_groups(context)
    lib.SSL_CTX_set_verify(ssl_ctx, 0, verify_callback)
    lib.SSL_CTX_ctrl(ssl_ctx, _SET_SESSION_CACHE_MODE, _CLIENT_SESSIONS, None)
    lib.SSL_CTX_sess_set_new_cb(ssl_ctx, new_session_callback)
    lib.SSL_CTX_set_timeout(ssl_ctx, _SESSION_LIFETIME)
    return context


def load_authorities(context: Context, file: str, path: str) -> None:
    """Load the certificates of authorities from a file and a directory. Raises LoadError."""
    if not file and not path:
        return
    lib = context.library
    if not lib.SSL_CTX_load_verify_locations(context.pointer, os.fsencode(file) or None, os.fsencode(path) or None):
        shown = ", ".join(f'{name}="{value}"' for name, value in (("CAfile", file), ("CApath", path)) if value)
        log.info(f"cannot load Certification Authority data, {shown}: disabling TLS support")
        libssl.print_errors(lib)
        raise LoadError
    if context.view.tls_append_default_CA and not lib.SSL_CTX_set_default_verify_paths(context.pointer):
        log.info("cannot set default OpenSSL certificate verification paths: disabling TLS support")
        libssl.print_errors(lib)
        raise LoadError


_NEW_DEFAULT = "?X25519MLKEM768:DEFAULT"
_OLD_DEFAULT = "X25519 X448 prime256v1 secp384r1 secp521r1"


def set_groups(context: Context) -> None:
    """Set the key exchange groups of tls_eecdh_auto_curves and tls_ffdhe_auto_groups.

    Postfix's default depends on the library that it was built for: with one that does not know ``DEFAULT`` (before
    3.5) it is a list, and so it is here.
    """
    view = context.view
    curves = view.tls_eecdh_auto_curves
    if context.library.version < (3, 5):
        curves = curves.replace(_NEW_DEFAULT, _OLD_DEFAULT)
    if context.release < (3, 8):
        _set_curves(context, curves)
        return
    groups = view.tls_ffdhe_auto_groups
    if not curves and not groups:
        return
    default = _OLD_DEFAULT if context.library.version < (3, 5) else _NEW_DEFAULT
    ffdhe = "ffdhe2048 ffdhe3072" if context.library.version < (3, 5) else ""
    for origin, text in (("configured", f"{curves} {groups}"), ("Postfix default", f"{default} {ffdhe}")):
        if origin != "configured":
            log.warning("using Postfix default key exchange groups instead")
        retry = _try_groups(context, origin, text)
        if retry is None:
            return
        if not retry:
            break
    log.warning("using OpenSSL default key exchange groups instead")


def _try_groups(context: Context, origin: str, text: str) -> bool | None:
    """Set the groups in `text`: None when done, else whether others may be tried."""
    lib = context.library
    names = text.replace(",", " ").replace(":", " ").split()
    if not names:
        log.warning(f"no {origin} key exchange group - OpenSSL requires at least one")
        return True
    trial = lib.SSL_CTX_new(lib.TLS_method())
    known: dict[str, str] = {}
    for name in names:
        lib.ERR_set_mark()
        if lib.SSL_CTX_ctrl(trial, _SET_GROUPS_LIST, 0, name.encode()) > 0:
            known.setdefault(name.lower(), name)
        lib.ERR_pop_to_mark()
    lib.SSL_CTX_free(trial)
    if not known:
        log.warning(f"none of the {origin} key exchange groups are supported")
        return True
    if lib.SSL_CTX_ctrl(context.pointer, _SET_GROUPS_LIST, 0, ":".join(known.values()).encode()) <= 0:
        log.warning(f"failed to set up the {origin} key exchange groups")
        libssl.print_errors(lib)
        return False
    return None


def _set_curves(context: Context, text: str) -> None:
    """The curves of tls_eecdh_auto_curves, as before release 3.8."""
    import ctypes

    lib = context.library
    numbers: list[int] = []
    unknown = False
    trial = lib.SSL_CTX_new(lib.TLS_method())
    for name in text.replace(",", " ").split():
        word = name.encode("utf-8", "surrogateescape")
        number = lib.EC_curve_nist2nid(word) or lib.OBJ_sn2nid(word) or lib.OBJ_ln2nid(word)
        if not number:
            log.warning(f'ignoring unknown ECDHE curve "{name}"')
            continue
        if lib.SSL_CTX_ctrl(trial, _SET_GROUPS, 1, ctypes.byref(ctypes.c_int(number))) <= 0:
            unknown = True
            continue
        numbers.append(number)
    lib.SSL_CTX_free(trial)
    lib.ERR_clear_error()
    if not numbers:
        if unknown:
            log.warning("none of the configured ECDHE curves are supported")
        return
    if lib.SSL_CTX_ctrl(context.pointer, _SET_GROUPS, len(numbers), (ctypes.c_int * len(numbers))(*numbers)) <= 0:
        log.warning("failed to configure ECDHE curves")
        libssl.print_errors(lib)
