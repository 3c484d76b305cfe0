#!/usr/bin/env python3
"""Makes the certificates of the TLS scenarios: compat/certificates.

    tools/make_certificates.py       makes all of them anew; recordings that show fingerprints must be made anew, too

Each NAME.pem has a private key, its certificate and the certificates that a server sends with it. NAME-ca.pem is a
certificate authority's certificate. They are valid from 2020 to 2120, but for those that are not meant to be. The
keys are public: they protect nothing. Needs the package `cryptography`.
"""

import datetime
import hashlib
import subprocess
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

PLACE = Path(__file__).resolve().parent.parent / "compat/certificates"
START, END = datetime.datetime(2020, 1, 1), datetime.datetime(2120, 1, 1)
HOST = "mx.server.example"


def new_key(kind: str):
    if kind.startswith("rsa"):
        return rsa.generate_private_key(65537, int(kind[3:] or 2048))
    if kind == "dsa":
        return dsa.generate_private_key(2048)
    if kind == "ed25519":
        return ed25519.Ed25519PrivateKey.generate()
    if kind == "ed448":
        return ed448.Ed448PrivateKey.generate()
    return ec.generate_private_key({"p256": ec.SECP256R1(), "p384": ec.SECP384R1(), "p521": ec.SECP521R1()}[kind])


class Entity:
    """A key and its certificate; without an issuer it is self-signed. `chain` is what a server sends with it."""

    def __init__(
        self,
        *,
        cn: str | None = HOST,
        org: str | None = None,
        names: tuple[str, ...] = (HOST,),
        kind: str = "p256",
        issuer: "Entity | None" = None,
        start: datetime.datetime = START,
        end: datetime.datetime = END,
        authority: bool = False,
        usage: x509.ObjectIdentifier | None = None,
        digest: hashes.HashAlgorithm | None = None,
        send_chain: bool = True,
    ) -> None:
        self.key = new_key(kind)
        parts = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, org)] if org else []
        parts += [x509.NameAttribute(NameOID.COMMON_NAME, cn)] if cn else []
        self.name = x509.Name(parts)
        signer = issuer or self
        serial = int.from_bytes(hashlib.sha256(repr((cn, org, names, kind)).encode()).digest()[:8]) >> 1
        builder = x509.CertificateBuilder(
            signer.name, self.name, self.key.public_key(), serial + len(names), start, end
        ).add_extension(x509.BasicConstraints(authority, None), critical=True)
        builder = builder.add_extension(
            x509.SubjectKeyIdentifier.from_public_key(self.key.public_key()), critical=False
        ).add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.key.public_key()), critical=False)
        if names and not authority:
            builder = builder.add_extension(
                x509.SubjectAlternativeName([x509.DNSName(n) for n in names]), critical=False
            )
        if usage is not None:
            builder = builder.add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
        plain = isinstance(signer.key, ed25519.Ed25519PrivateKey | ed448.Ed448PrivateKey)
        self.certificate = builder.sign(signer.key, None if plain else digest or hashes.SHA256())
        self.chain: list[Entity] = []
        if issuer is not None and issuer.chain_of and send_chain:
            self.chain = [issuer, *issuer.chain]
        self.chain_of = issuer

    def pem(self) -> str:
        return self.certificate.public_bytes(serialization.Encoding.PEM).decode()

    def key_pem(self) -> str:
        encoding, format_ = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
        return self.key.private_bytes(encoding, format_, serialization.NoEncryption()).decode()

    def public_pem(self) -> str:
        encoding, format_ = serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        return self.key.public_key().public_bytes(encoding, format_).decode()


def make() -> dict[str, str]:
    """The files."""
    root = Entity(cn="Test Root", names=(), authority=True)
    middle = Entity(cn="Test Intermediate", names=(), authority=True, issuer=root)
    third = Entity(cn="Test Third", names=(), authority=True, issuer=middle)
    fourth = Entity(cn="Test Fourth", names=(), authority=True, issuer=third)
    nameless = Entity(cn=None, org="Nameless Authority", names=(), authority=True)
    other = Entity(cn="Other Root", names=(), authority=True)
    old_root = Entity(cn="Old Root", names=(), authority=True, end=datetime.datetime(2021, 1, 1))
    leaves = {
        "good": Entity(kind="rsa", issuer=root),
        "ecdsa": Entity(issuer=root),
        "p384": Entity(kind="p384", issuer=root),
        "ed25519": Entity(kind="ed25519", issuer=root),
        "chained": Entity(issuer=middle),
        "incomplete": Entity(issuer=middle, send_chain=False),
        "deep": Entity(issuer=fourth),
        "wildcard": Entity(cn=None, org="Wildcard", names=("*.server.example",), issuer=root),
        "partial-wildcard": Entity(cn="partial", names=("m*.server.example",), issuer=root),
        "cn-only": Entity(names=(), issuer=root),
        "cn-ignored": Entity(names=("elsewhere.example",), issuer=root),
        "no-cn": Entity(cn=None, org="No Common Name", issuer=root),
        "nexthop": Entity(cn="server.example", names=("server.example",), issuer=root),
        "below": Entity(cn="a.b.server.example", names=("a.b.server.example",), issuer=root),
        "several": Entity(cn="several", names=("other.example", HOST, "server.example"), issuer=root),
        "idna": Entity(cn="idna", names=("xn--mller-kva.example",), issuer=root),
        "wrong": Entity(cn="wrong.example", names=("wrong.example",), issuer=root),
        "self-signed": Entity(),
        "expired": Entity(issuer=root, end=datetime.datetime(2021, 1, 1)),
        "future": Entity(issuer=root, start=datetime.datetime(2119, 1, 1)),
        "expired-root": Entity(issuer=old_root),
        "client-purpose": Entity(issuer=root, usage=ExtendedKeyUsageOID.CLIENT_AUTH),
        "nameless-issuer": Entity(issuer=nameless),
        "other": Entity(issuer=other),
        "weak": Entity(kind="rsa1024", issuer=root),
        "long-cn": Entity(cn="c" * 64, issuer=root),
        "control-cn": Entity(cn="host\tname", issuer=root),
        "utf8-cn": Entity(cn="hôte", issuer=root),
        "client": Entity(cn="client.example", names=("client.example",), kind="rsa", issuer=root),
        "client-ecdsa": Entity(cn="client.example", names=("client.example",), issuer=middle),
        "client-dsa": Entity(cn="client.example", names=("client.example",), kind="dsa", issuer=root),
    }
    files = {f"{name}.pem": e.key_pem() + e.pem() + "".join(c.pem() for c in e.chain) for name, e in leaves.items()}
    authorities = {"root": root, "middle": middle, "nameless": nameless, "other": other, "old": old_root}
    files |= {f"{name}-ca.pem": e.pem() for name, e in authorities.items()}
    files["good-pub.pem"] = leaves["good"].public_pem()
    files["root-pub.pem"] = root.public_pem()
    for name in ("client", "client-ecdsa", "client-dsa"):
        files[f"{name}-key.pem"] = leaves[name].key_pem()
        files[f"{name}-cert.pem"] = leaves[name].pem() + "".join(c.pem() for c in leaves[name].chain)
    files["empty.pem"] = ""
    files["cert-first.pem"] = leaves["client"].pem() + leaves["client"].key_pem()
    files["mismatch.pem"] = leaves["client-ecdsa"].key_pem() + leaves["wildcard"].pem()
    files["two-chains.pem"] = files["client.pem"] + files["client-ecdsa.pem"]
    files["two-keys.pem"] = leaves["client"].key_pem() + files["client-ecdsa.pem"]
    files["garbage.pem"] = "-----BEGIN CERTIFICATE-----\nbm90IGEgY2VydGlmaWNhdGU=\n-----END CERTIFICATE-----\n"
    return files


def main() -> None:
    PLACE.mkdir(parents=True, exist_ok=True)
    for name, text in make().items():
        (PLACE / name).write_text(text)
    (PLACE / "by-hash").mkdir(exist_ok=True)
    for old in (PLACE / "by-hash").iterdir():
        old.unlink()
    for name in ("root-ca.pem", "other-ca.pem"):
        words = ["openssl", "x509", "-noout", "-hash", "-in", str(PLACE / name)]
        number = subprocess.check_output(words, text=True).strip()
        (PLACE / f"by-hash/{number}.0").write_text((PLACE / name).read_text())


if __name__ == "__main__":
    main()
