"""OpenSSL's libssl and libcrypto by ctypes: every prototype that this package uses, and nothing else.

Why not the standard library's ssl: it has no DANE, cannot export a session, does not say what was negotiated, and hides
the error stack that Postfix logs. Why no binding from elsewhere: none has DANE (../shared/deps.md 2.6).

A wrong prototype crashes the process. So all are here, each symbol is looked up when the library is loaded, and nothing
else in the package says ``ctypes.CDLL``. Pointers are plain integers (None for NULL); who must free what is said where
it is used. Functions that only newer libraries have are in `OPTIONAL`, None where missing.
"""

import ctypes
import functools
import os
from collections.abc import Callable
from ctypes import CFUNCTYPE, POINTER, c_char_p, c_int, c_long, c_size_t, c_uint, c_uint8, c_uint64, c_ulong, c_void_p
from typing import Any

from postfixpy import log

Pointer = int
"""What ctypes makes of ``void *`` that is not NULL."""

VERIFY_CALLBACK = CFUNCTYPE(c_int, c_int, c_void_p)
SESSION_CALLBACK = CFUNCTYPE(c_int, c_void_p, c_void_p)
SERVERNAME_CALLBACK = CFUNCTYPE(c_int, c_void_p, POINTER(c_int), c_void_p)
INFO_CALLBACK = CFUNCTYPE(None, c_void_p, c_int, c_int)
BIO_CALLBACK = CFUNCTYPE(c_long, c_void_p, c_int, c_void_p, c_size_t, c_int, c_long, c_int, POINTER(c_size_t))

_Prototype = tuple[Any, ...]
"""The type of the result, and those of the arguments."""

_SSL: dict[str, _Prototype] = {
    "TLS_method": (c_void_p,),
    "TLS_client_method": (c_void_p,),
    "TLS_server_method": (c_void_p,),
    "SSL_CTX_new": (c_void_p, c_void_p),
    "SSL_CTX_free": (None, c_void_p),
    "SSL_CTX_ctrl": (c_long, c_void_p, c_int, c_long, c_void_p),
    "SSL_CTX_callback_ctrl": (c_long, c_void_p, c_int, c_void_p),
    "SSL_CTX_set_options": (c_uint64, c_void_p, c_uint64),
    "SSL_CTX_set_security_level": (None, c_void_p, c_int),
    "SSL_CTX_set_verify": (None, c_void_p, c_int, c_void_p),
    "SSL_CTX_set_verify_depth": (None, c_void_p, c_int),
    "SSL_CTX_set_timeout": (c_long, c_void_p, c_long),
    "SSL_CTX_set_session_id_context": (c_int, c_void_p, c_char_p, c_uint),
    "SSL_CTX_set_client_CA_list": (None, c_void_p, c_void_p),
    "SSL_CTX_sess_set_new_cb": (None, c_void_p, c_void_p),
    "SSL_CTX_dane_enable": (c_int, c_void_p),
    "SSL_CTX_dane_mtype_set": (c_int, c_void_p, c_void_p, c_uint8, c_uint8),
    "SSL_CTX_load_verify_locations": (c_int, c_void_p, c_char_p, c_char_p),
    "SSL_CTX_set_default_verify_paths": (c_int, c_void_p),
    "SSL_CTX_use_certificate_chain_file": (c_int, c_void_p, c_char_p),
    "SSL_CTX_use_PrivateKey_file": (c_int, c_void_p, c_char_p, c_int),
    "SSL_CTX_check_private_key": (c_int, c_void_p),
    "SSL_CTX_use_cert_and_key": (c_int, c_void_p, c_void_p, c_void_p, c_void_p, c_int),
    "SSL_CTX_set0_tmp_dh_pkey": (c_int, c_void_p, c_void_p),
    "SSL_CTX_set_num_tickets": (c_int, c_void_p, c_size_t),
    "SSL_CTX_get0_certificate": (c_void_p, c_void_p),
    "SSL_CTX_get0_privatekey": (c_void_p, c_void_p),
    "SSL_load_client_CA_file": (c_void_p, c_char_p),
    "SSL_use_cert_and_key": (c_int, c_void_p, c_void_p, c_void_p, c_void_p, c_int),
    "SSL_new": (c_void_p, c_void_p),
    "SSL_free": (None, c_void_p),
    "SSL_ctrl": (c_long, c_void_p, c_int, c_long, c_void_p),
    "SSL_set_options": (c_uint64, c_void_p, c_uint64),
    "SSL_set_SSL_CTX": (c_void_p, c_void_p, c_void_p),
    "SSL_set_bio": (None, c_void_p, c_void_p, c_void_p),
    "SSL_set_connect_state": (None, c_void_p),
    "SSL_set_accept_state": (None, c_void_p),
    "SSL_set_cipher_list": (c_int, c_void_p, c_char_p),
    "SSL_set_security_level": (None, c_void_p, c_int),
    "SSL_set_info_callback": (None, c_void_p, c_void_p),
    "SSL_set_hostflags": (None, c_void_p, c_uint),
    "SSL_add1_host": (c_int, c_void_p, c_char_p),
    "SSL_get0_peername": (c_char_p, c_void_p),
    "SSL_get_servername": (c_char_p, c_void_p, c_int),
    "SSL_dane_enable": (c_int, c_void_p, c_char_p),
    "SSL_dane_set_flags": (c_ulong, c_void_p, c_ulong),
    "SSL_dane_tlsa_add": (c_int, c_void_p, c_uint8, c_uint8, c_uint8, c_char_p, c_size_t),
    "SSL_get0_dane_authority": (c_int, c_void_p, POINTER(c_void_p), POINTER(c_void_p)),
    "SSL_get0_dane_tlsa": (
        c_int,
        c_void_p,
        POINTER(c_uint8),
        POINTER(c_uint8),
        POINTER(c_uint8),
        POINTER(c_void_p),
        POINTER(c_size_t),
    ),
    "SSL_do_handshake": (c_int, c_void_p),
    "SSL_read": (c_int, c_void_p, c_void_p, c_int),
    "SSL_write": (c_int, c_void_p, c_char_p, c_int),
    "SSL_shutdown": (c_int, c_void_p),
    "SSL_has_pending": (c_int, c_void_p),
    "SSL_get_error": (c_int, c_void_p, c_int),
    "SSL_get_version": (c_char_p, c_void_p),
    "SSL_version": (c_int, c_void_p),
    "SSL_session_reused": (c_int, c_void_p),
    "SSL_get_verify_result": (c_long, c_void_p),
    "SSL_get1_peer_certificate": (c_void_p, c_void_p),
    "SSL_get_peer_cert_chain": (c_void_p, c_void_p),
    "SSL_get_privatekey": (c_void_p, c_void_p),
    "SSL_get_current_cipher": (c_void_p, c_void_p),
    "SSL_CIPHER_get_name": (c_char_p, c_void_p),
    "SSL_CIPHER_get_bits": (c_int, c_void_p, POINTER(c_int)),
    "SSL_group_to_name": (c_char_p, c_void_p, c_int),
    "SSL_set_session": (c_int, c_void_p, c_void_p),
    "SSL_SESSION_free": (None, c_void_p),
    "i2d_SSL_SESSION": (c_int, c_void_p, c_void_p),
    "d2i_SSL_SESSION": (c_void_p, c_void_p, POINTER(c_void_p), c_long),
    "SSL_get_finished": (c_size_t, c_void_p, c_void_p, c_size_t),
    "SSL_get_peer_finished": (c_size_t, c_void_p, c_void_p, c_size_t),
    "SSL_export_keying_material": (c_int, c_void_p, c_void_p, c_size_t, c_char_p, c_size_t, c_char_p, c_size_t, c_int),
    "SSL_get_ex_data_X509_STORE_CTX_idx": (c_int,),
    "SSL_state_string_long": (c_char_p, c_void_p),
    "SSL_alert_type_string_long": (c_char_p, c_int),
    "SSL_alert_desc_string_long": (c_char_p, c_int),
}

_CRYPTO: dict[str, _Prototype] = {
    "OpenSSL_version": (c_char_p, c_int),
    "OpenSSL_version_num": (c_ulong,),
    "CONF_modules_load_file": (c_int, c_char_p, c_char_p, c_ulong),
    "CONF_modules_unload": (None, c_int),
    "CRYPTO_free": (None, c_void_p, c_char_p, c_int),
    "ERR_clear_error": (None,),
    "ERR_peek_error": (c_ulong,),
    "ERR_peek_last_error": (c_ulong,),
    "ERR_get_error_all": (
        c_ulong,
        POINTER(c_char_p),
        POINTER(c_int),
        POINTER(c_char_p),
        POINTER(c_char_p),
        POINTER(c_int),
    ),
    "ERR_error_string_n": (None, c_ulong, c_void_p, c_size_t),
    "ERR_set_mark": (c_int,),
    "ERR_pop_to_mark": (c_int,),
    "BIO_new": (c_void_p, c_void_p),
    "BIO_free": (c_int, c_void_p),
    "BIO_s_mem": (c_void_p,),
    "BIO_new_mem_buf": (c_void_p, c_char_p, c_int),
    "BIO_read": (c_int, c_void_p, c_void_p, c_int),
    "BIO_write": (c_int, c_void_p, c_char_p, c_int),
    "BIO_ctrl": (c_long, c_void_p, c_int, c_long, c_void_p),
    "BIO_ctrl_pending": (c_size_t, c_void_p),
    "BIO_set_callback_ex": (None, c_void_p, c_void_p),
    "PEM_read_bio": (
        c_int,
        c_void_p,
        POINTER(c_void_p),
        POINTER(c_void_p),
        POINTER(c_void_p),
        POINTER(c_long),
    ),
    "d2i_X509": (c_void_p, c_void_p, POINTER(c_void_p), c_long),
    "i2d_X509": (c_int, c_void_p, c_void_p),
    "i2d_PUBKEY": (c_int, c_void_p, c_void_p),
    "d2i_PrivateKey": (c_void_p, c_int, c_void_p, POINTER(c_void_p), c_long),
    "d2i_KeyParams": (c_void_p, c_int, c_void_p, POINTER(c_void_p), c_long),
    "d2i_PKCS8_PRIV_KEY_INFO": (c_void_p, c_void_p, POINTER(c_void_p), c_long),
    "PKCS8_PRIV_KEY_INFO_free": (None, c_void_p),
    "EVP_PKCS82PKEY": (c_void_p, c_void_p),
    "EVP_PKEY_free": (None, c_void_p),
    "EVP_PKEY_get_id": (c_int, c_void_p),
    "EVP_PKEY_type": (c_int, c_int),
    "EVP_PKEY_get_bits": (c_int, c_void_p),
    "EVP_PKEY_get0_type_name": (c_char_p, c_void_p),
    "EVP_PKEY_get_group_name": (c_int, c_void_p, c_void_p, c_size_t, POINTER(c_size_t)),
    "EVP_get_digestbyname": (c_void_p, c_char_p),
    "EVP_MD_get_size": (c_int, c_void_p),
    "EVP_Digest": (c_int, c_char_p, c_size_t, c_void_p, POINTER(c_uint), c_void_p, c_void_p),
    "X509_free": (None, c_void_p),
    "X509_check_host": (c_int, c_void_p, c_char_p, c_size_t, c_uint, c_void_p),
    "X509_up_ref": (c_int, c_void_p),
    "X509_get0_pubkey": (c_void_p, c_void_p),
    "X509_get_subject_name": (c_void_p, c_void_p),
    "X509_get_issuer_name": (c_void_p, c_void_p),
    "X509_get_signature_info": (c_int, c_void_p, POINTER(c_int), POINTER(c_int), POINTER(c_int), POINTER(c_uint)),
    "X509_NAME_oneline": (c_char_p, c_void_p, c_void_p, c_int),
    "X509_NAME_get_index_by_NID": (c_int, c_void_p, c_int, c_int),
    "X509_NAME_get_entry": (c_void_p, c_void_p, c_int),
    "X509_NAME_ENTRY_get_data": (c_void_p, c_void_p),
    "ASN1_STRING_to_UTF8": (c_int, POINTER(c_void_p), c_void_p),
    "ASN1_STRING_type": (c_int, c_void_p),
    "X509_STORE_CTX_get_current_cert": (c_void_p, c_void_p),
    "X509_STORE_CTX_get_error": (c_int, c_void_p),
    "X509_STORE_CTX_set_error": (None, c_void_p, c_int),
    "X509_STORE_CTX_get_error_depth": (c_int, c_void_p),
    "X509_STORE_CTX_get_ex_data": (c_void_p, c_void_p, c_int),
    "X509_verify_cert_error_string": (c_char_p, c_long),
    "OPENSSL_sk_new_null": (c_void_p,),
    "OPENSSL_sk_push": (c_int, c_void_p, c_void_p),
    "OPENSSL_sk_num": (c_int, c_void_p),
    "OPENSSL_sk_value": (c_void_p, c_void_p, c_int),
    "OPENSSL_sk_free": (None, c_void_p),
    "OBJ_nid2sn": (c_char_p, c_int),
    "OBJ_sn2nid": (c_int, c_char_p),
    "OBJ_ln2nid": (c_int, c_char_p),
    "EC_curve_nist2nid": (c_int, c_char_p),
}

OPTIONAL: dict[str, _Prototype] = {
    "SSL_get0_group_name": (c_char_p, c_void_p),  # 3.2
    "SSL_get0_peer_rpk": (c_void_p, c_void_p),  # 3.2, and so on
    "SSL_set1_server_cert_type": (c_int, c_void_p, c_char_p, c_size_t),
    "SSL_CTX_set1_client_cert_type": (c_int, c_void_p, c_char_p, c_size_t),
    "SSL_CTX_set1_server_cert_type": (c_int, c_void_p, c_char_p, c_size_t),
    "SSL_get_negotiated_client_cert_type": (c_int, c_void_p),
    "SSL_get_negotiated_server_cert_type": (c_int, c_void_p),
    "X509_STORE_CTX_get0_rpk": (c_void_p, c_void_p),
    "SSL_add1_dnsname": (c_int, c_void_p, c_char_p),  # 4.0, where SSL_add1_host takes addresses too
}


class LibraryMissing(Exception):
    """libssl cannot be used. str() says why."""


class Library:
    """The functions, as attributes. `version` is a tuple like (3, 0, 19); `banner` its full name."""

    def __init__(self, ssl: ctypes.CDLL, crypto: ctypes.CDLL) -> None:
        self._functions: dict[str, Any] = {}
        for library, prototypes, optional in (
            (ssl, _SSL, False),
            (crypto, _CRYPTO, False),
            (ssl, OPTIONAL, True),
            (crypto, OPTIONAL, True),
        ):
            for name, (result, *arguments) in prototypes.items():
                function = getattr(library, name, None)
                if function is None:
                    if not optional:
                        raise LibraryMissing(f"the TLS library lacks {name}")
                    self._functions.setdefault(name, None)
                    continue
                function.restype, function.argtypes = result, arguments
                self._functions[name] = function
        self.__dict__.update(self._functions)
        number = self.OpenSSL_version_num()
        self.version = (number >> 28, number >> 20 & 0xFF, number >> 4 & 0xFF)
        self.banner: str = self.OpenSSL_version(0).decode()

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"no prototype for {name}")


def _open(stem: str) -> ctypes.CDLL:
    """libssl or libcrypto of OpenSSL 3 or 4. Raises LibraryMissing."""
    directory = os.environ.get("POSTFIXPY_LIBSSL", "")
    problem = ""
    for version in (3, 4):
        try:
            return ctypes.CDLL(os.path.join(directory, f"lib{stem}.so.{version}"))
        except OSError as error:
            problem = problem or str(error)
    raise LibraryMissing(problem)


@functools.cache
def library() -> Library:
    """The library, loaded once. Raises LibraryMissing."""
    crypto = _open("crypto")
    return Library(_open("ssl"), crypto)


def available() -> Library | None:
    """The library, or None after a warning in the log."""
    try:
        return library()
    except LibraryMissing as error:
        log.warning(f"cannot load the OpenSSL library (libssl.so.3): {error}: disabling TLS support")
        return None


def to_der(encode: Callable[..., int], thing: Pointer) -> bytes:
    """The DER form of an object by its ``i2d_`` function, b"" when that fails."""
    size = encode(thing, None)
    if size <= 0:
        return b""
    buffer = ctypes.create_string_buffer(size)
    position = c_void_p(ctypes.addressof(buffer))
    encode(thing, ctypes.byref(position))
    return buffer.raw


def take_string(lib: Library, pointer: Pointer | None, size: int = -1) -> bytes:
    """The bytes at `pointer`, which is OPENSSL_free'd."""
    if not pointer:
        return b""
    data = ctypes.string_at(pointer, size)
    lib.CRYPTO_free(pointer, b"", 0)
    return data


_ERR_TXT_STRING = 2


def print_errors(lib: Library) -> None:
    """Log the library's error stack, and empty it."""
    file, function, data = c_char_p(), c_char_p(), c_char_p()
    line, flags = c_int(), c_int()
    buffer = ctypes.create_string_buffer(1024)
    arguments = [ctypes.byref(part) for part in (file, line, function, data, flags)]
    while number := lib.ERR_get_error_all(*arguments):
        lib.ERR_error_string_n(number, buffer, len(buffer))
        text = f"{buffer.value.decode()}:{(file.value or b'').decode('utf-8', 'replace')}:{line.value}:"
        if flags.value & _ERR_TXT_STRING:
            text += f"{(data.value or b'').decode('utf-8', 'replace')}:"
        log.warning(f"TLS library problem: {text}")
