"""What was negotiated, and the line in the log that says it (smtp_tls_loglevel = 1)."""

import ctypes
from ctypes import c_int, c_size_t, c_void_p

from .channel import Channel
from .handshake import KeyInfo, TLSState

_TLS13 = 0x304
_PEER_SIGNATURE_NID, _PEER_TMP_KEY, _SIGNATURE_NID, _NEGOTIATED_GROUP = 108, 109, 132, 134
_KEYMGMT, _RSA, _DH, _EC = -1, 6, 28, 408
_RAW_KEY = 2


def negotiated(channel: Channel, state: TLSState, release: tuple[int, int], *, server: bool = False) -> None:
    """Fill in protocol, ciphers, keys and the summary text.

    Since 3.10 the key exchange is called by the group's name, in older releases by the kind of key; they name
    signatures of a resumed session, too.
    """
    lib, ssl = channel.library, channel.ssl
    state.protocol = lib.SSL_get_version(ssl).decode()
    cipher = lib.SSL_get_current_cipher(ssl)
    bits = c_int()
    state.cipher = lib.SSL_CIPHER_get_name(cipher).decode()
    state.bits = lib.SSL_CIPHER_get_bits(cipher, ctypes.byref(bits))
    state.algorithm_bits = bits.value
    if lib.SSL_version(ssl) >= _TLS13:
        state.key_exchange = _key_exchange(channel, release)
        if not (state.reused and release >= (3, 10)):
            _signatures(channel, state, server)
    state.summary = _text(state)


def _key_exchange(channel: Channel, release: tuple[int, int]) -> KeyInfo:
    lib, ssl = channel.library, channel.ssl
    if release >= (3, 10):
        if lib.SSL_get0_group_name:
            name = lib.SSL_get0_group_name(ssl)
        else:
            name = lib.SSL_group_to_name(ssl, lib.SSL_ctrl(ssl, _NEGOTIATED_GROUP, 0, None))
        if name:
            return KeyInfo(name.decode())
    key = c_void_p()
    if not lib.SSL_ctrl(ssl, _PEER_TMP_KEY, 0, ctypes.byref(key)) or not key.value:
        return KeyInfo()
    kind = lib.EVP_PKEY_get_id(key.value)
    if kind == _DH:
        found = KeyInfo("DHE", bits=lib.EVP_PKEY_get_bits(key.value))
    elif kind == _EC:
        found = KeyInfo("ECDHE", _curve(channel, key.value))
    elif kind == _KEYMGMT and release >= (3, 10):
        found = KeyInfo(lib.EVP_PKEY_get0_type_name(key.value).decode())
    else:
        found = KeyInfo((lib.OBJ_nid2sn(lib.EVP_PKEY_type(kind)) or b"").decode())
    lib.EVP_PKEY_free(key.value)
    return found


def _curve(channel: Channel, key: int) -> str:
    buffer = ctypes.create_string_buffer(80)
    size = c_size_t()
    if not channel.library.EVP_PKEY_get_group_name(key, buffer, len(buffer), ctypes.byref(size)):
        return ""
    return buffer.value.decode()


def _key_info(channel: Channel, key: int) -> KeyInfo:
    lib = channel.library
    kind = lib.EVP_PKEY_get_id(key)
    if kind == _RSA:  # TLS 1.3 has no other RSA signatures
        return KeyInfo("RSA-PSS", bits=lib.EVP_PKEY_get_bits(key))
    if kind == _EC:
        return KeyInfo("ECDSA", _curve(channel, key))
    if kind == _KEYMGMT:
        return KeyInfo((lib.EVP_PKEY_get0_type_name(key) or b"").decode())
    return KeyInfo((lib.OBJ_nid2sn(lib.EVP_PKEY_type(kind)) or b"").decode())


def _digest(channel: Channel, what: int) -> str:
    number = c_int()
    if channel.library.SSL_ctrl(channel.ssl, what, 0, ctypes.byref(number)) and number.value:
        return str(channel.library.OBJ_nid2sn(number.value).decode())
    return ""


def _signatures(channel: Channel, state: TLSState, server: bool) -> None:
    lib, ssl = channel.library, channel.ssl
    own = lib.SSL_get_privatekey(ssl)
    if own and (server or lib.SSL_ctrl(ssl, _SIGNATURE_NID, 0, ctypes.byref(c_int()))):
        info, digest = _key_info(channel, own), _digest(channel, _SIGNATURE_NID)
        if server:
            state.signature, state.digest = info, digest
        else:
            state.client_signature, state.client_digest = info, digest
    certificate = lib.SSL_get1_peer_certificate(ssl)
    peer = lib.X509_get0_pubkey(certificate) if certificate else None
    if not peer and lib.SSL_get0_peer_rpk:
        peer = lib.SSL_get0_peer_rpk(ssl)
    if peer:
        info, digest = _key_info(channel, peer), _digest(channel, _PEER_SIGNATURE_NID)
        if server:
            state.client_signature, state.client_digest = info, digest
        else:
            state.signature, state.digest = info, digest
    if certificate:
        lib.X509_free(certificate)
    if lib.SSL_get_negotiated_server_cert_type and (peer or own):
        state.signature_raw = lib.SSL_get_negotiated_server_cert_type(ssl) == _RAW_KEY
        state.client_signature_raw = lib.SSL_get_negotiated_client_cert_type(ssl) == _RAW_KEY


def _signature(what: str, info: KeyInfo, raw: bool, digest: str) -> str:
    if not info.name:
        return ""
    text = str(info)
    if raw and info.curve:
        text = f"{info.name} ({info.curve} raw public key)"
    elif raw:
        text = f"{info.name} ({info.bits} bit raw public key)" if info.bits else f"{info.name} (raw public key)"
    return f" {what}-signature {text}" + (f" {what}-digest {digest}" if digest else "")


def _text(state: TLSState) -> str:
    text = f"{state.protocol} with cipher {state.cipher} ({state.bits}/{state.algorithm_bits} bits)"
    if state.key_exchange.name:
        text += f" key-exchange {state.key_exchange}"
    text += _signature("server", state.signature, state.signature_raw, state.digest)
    return text + _signature("client", state.client_signature, state.client_signature_raw, state.client_digest)
