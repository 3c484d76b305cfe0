#!/usr/bin/env python3
"""Fuzzes what SASL reads from others: challenges, responses, token files, answers of providers, dovecot's lines.

    tools/fuzz_sasl.py [SECONDS [SEED [TARGET...]]]

The invariants:

challenges      a client's mechanism answers with bytes or raises SASLError, whatever a server says
responses       a server's mechanism goes on, or raises Refused; it never authenticates who does not know the password
pairs           what parses as pairs of DIGEST-MD5 parses as the same pairs when it is written anew
base64          what a challenge decodes to is what its text says, or it is a SASLError
token_files     a file is a Source, or a LastingError that does not show its secrets
answers         an answer of a provider is a token that can be sent, or a TokenError without secrets
kept_passwords  no kept password is matched by a password that is not its own, and none raises but Refused
"""

import base64
import sys

import fuzz

from postfixpy.sasl import digest_md5, passwords, server, token_source
from postfixpy.sasl.choice import BEARERS, ORDER, choose, words
from postfixpy.sasl.mechanism import Credentials, SASLError, TokenError
from postfixpy.sasl.server import Challenge, Check, CheckToken, Refused, ScramSecret
from postfixpy.smtp.sasl import decode

SECRET, TOKEN = "pa55w0rd-0f-mine", "t0ken-0f-mine"
CLIENTS = [kind for kind in (*ORDER, *BEARERS) if kind.name not in ("GSSAPI", "NTLM", "EXTERNAL")]
KNOWN = {digest: ScramSecret.of(SECRET, digest, b"salt", 1) for digest in ("sha1", "sha256")}


def challenges(data: bytes) -> None:
    parts = data.split(b"\xfe")
    for kind in CLIENTS:
        credentials = Credentials("user", SECRET, host="server.example", token=TOKEN, local_host="client.example")
        credentials.nonce = lambda: "abc"
        client = kind(credentials)
        try:
            client.initial()
            for part in parts[:4]:
                assert isinstance(client.step(part), bytes)
        except SASLError as error:
            assert SECRET not in str(error) + error.log


def responses(data: bytes) -> None:
    first, *rest = data.split(b"\xfe")
    for name in ("PLAIN", "LOGIN", "SCRAM-SHA-1", "SCRAM-SHA-256-PLUS", "OAUTHBEARER", "XOAUTH2"):
        try:
            run = server.start(name, first, {"tls-exporter": b"x"}, "nonce")
            asked = next(run)
            for part in rest[:6]:
                if isinstance(asked, Challenge):
                    asked = run.send(part)
                elif isinstance(asked, Check):
                    asked = run.send((asked.user, asked.password) == ("user", SECRET))
                elif isinstance(asked, CheckToken):
                    asked = run.send((asked.user, asked.token) == ("user", TOKEN))
                else:
                    asked = run.send(KNOWN.get(asked.digest))
        except Refused:
            continue
        except StopIteration as stop:
            raise AssertionError(f"{name}: {stop.value} is authenticated") from None


def pairs(data: bytes) -> None:
    try:
        found = list(digest_md5.parse(data))
    except ValueError:
        return
    written = b",".join(name.encode() + b"=" + digest_md5.quote(value) for name, value in found)
    assert list(digest_md5.parse(written)) == found


def base_64(data: bytes) -> None:
    text = data.decode("latin-1")
    try:
        found = decode(text)
    except SASLError:
        return
    assert decode(base64.b64encode(found).decode()) == found


def mechanism_lists(data: bytes) -> None:
    """A list of mechanisms leads to one of them, or to a SASLError."""
    text = data.decode("latin-1")
    try:
        name, _ = choose(text, (), Credentials("user", SECRET))
    except SASLError:
        return
    assert name in words(text)


def token_files(data: bytes) -> None:
    defaults = {"client_id": "me", "client_secret": SECRET}
    try:
        found = token_source.load("f", data, defaults)
    except token_source.LastingError as error:
        assert SECRET not in str(error)
        return
    assert SECRET not in repr(found)


def answers(data: bytes) -> None:
    source = token_source.Source("f", "me", SECRET, "https://idp.example/", TOKEN)
    status = (200, 400, 302)[len(data) % 3]
    try:
        found = token_source.fetch(source, "", 0, lambda url, form, way: (status, data))
    except TokenError as error:
        assert SECRET not in str(error) and TOKEN not in str(error)
        return
    assert token_source.sendable(found.access) and found.expiry > 0


def kept_passwords(data: bytes) -> None:
    kept = data.decode("utf-8", "surrogateescape")
    if passwords.split(kept)[0] == "CRYPT" or kept.count(",") == 3:
        return  # slow on purpose
    try:
        assert not passwords.matches(kept, "\x01 not this one")
    except Refused:
        pass


TARGETS = [
    fuzz.Target(
        challenges,
        [
            b'realm="a",nonce="n",algorithm=md5-sess\xferspauth=0',
            b"r=abcd,s=QSXC,i=4096\xfev=rmF9pqV8S7suAoZWja4dJRkFsKQ=",
            b'{"status":"401"}\xfe',
        ],
        [b"\xfe", b",", b"=", b'"', b"\\", b"i=1", b"i=65536", b"r=abc", b"s=", b"m=", b"qop=", b"algorithm=", b"\0"],
    ),
    fuzz.Target(
        responses,
        [b"\0user\0x", b"n,,n=user,r=abc\xfex\xfec=biws,r=abcnonce,p=AAAA", b"user=user\x01auth=Bearer x\x01\x01"],
        [b"\xfe", b",", b"=", b"\0", b"\x01", b"n,,", b"p=tls-exporter,,", b"c=", b"a=", b"m=", b"auth=Bearer "],
    ),
    fuzz.Target(pairs, [b'a="b",c=d, e = "f\\"g" ,,'], [b'"', b"\\", b",", b"=", b" ", b"\0"]),
    fuzz.Target(base_64, [b"VXNlcg==", b"VXNl"], [b"=", b"\r", b" ", b"\xff"]),
    fuzz.Target(mechanism_lists, [b"PLAIN LOGIN", b"SCRAM-SHA-256-PLUS DIGEST-MD5"], [b"-PLUS", b",", b" ", b"PLAIN"]),
    fuzz.Target(
        token_files,
        [b'{"refresh_token": "r", "expiry": "0"}', b'{"command": ["a", "b"]}'],
        [b'"', b"{", b"[", b":", b'"token_endpoint"', b"https://", b"1e999", b"null", b'"expiry"', b'"proxy"'],
    ),
    fuzz.Target(
        answers,
        [b'{"access_token": "a", "expires_in": 1}', b'{"error": "invalid_grant", "error_description": "x"}'],
        [b'"', b"{", b"[", b":", b'"error"', b"1e999", b"-1", b"null", b"\\u0000", SECRET.encode(), TOKEN.encode()],
    ),
    fuzz.Target(kept_passwords, [b"{PLAIN}x", b"{SSHA256}AAAA"], [b"{", b"}", b"{SSHA}", b",", b"=", b"\xff"]),
]

if __name__ == "__main__":
    sys.exit(fuzz.main(TARGETS))
