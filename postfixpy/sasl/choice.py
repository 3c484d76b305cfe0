"""Which mechanism to use: the strongest that both sides have, as Cyrus SASL chooses with Debian's modules.

The order is the library's own (mech_compare in its client), not the server's. What it depends on: anonymous last; then
those that send the password; then mutual authentication, resistance to active attacks, to guessing, channel binding,
the strength of layers, that of the hash. A mechanism must have every property that smtp_sasl_security_options names.

* EXTERNAL is stronger than CRAM-MD5 and weaker than DIGEST-MD5; once chosen it fails without an identity that TLS has
  proved, which Postfix never tells its library. Ours does not either: EXTERNAL is for other users of this package.
* NTLM and GSSAPI are there when their libraries are (the extras ``ntlm`` and ``gssapi``), as modules of Cyrus are.

Differs from Cyrus: the -PLUS forms of SCRAM are used when the TLS session has channel bindings; Postfix never hands
them to its library, which ignores those forms then. XOAUTH2 and OAUTHBEARER (above PLAIN, as those of the plug-in
sasl-xoauth2) are for passwords that name a token source, and such a password is for nothing else. GSS-SPNEGO and the
modules that Debian has in packages of their own (OTP, SRP, ...) are not there.
"""

import re
from collections.abc import Iterable, Mapping

from .bearer import OAuthBearer, XOAuth2
from .cram_md5 import CramMD5
from .digest_md5 import DigestMD5
from .gssapi import Gssapi
from .gssapi import available as gssapi_available
from .mechanism import NOMECH, Credentials, Mechanism, SASLError
from .ntlm import Ntlm
from .ntlm import available as ntlm_available
from .scram import BINDINGS, Scram, ScramSHA1, ScramSHA224, ScramSHA256, ScramSHA384, ScramSHA512
from .simple import Anonymous, External, Login, Plain

ORDER: tuple[type[Mechanism], ...] = (
    ScramSHA512,
    ScramSHA384,
    ScramSHA256,
    ScramSHA224,
    ScramSHA1,
    Gssapi,
    DigestMD5,
    External,
    CramMD5,
    Ntlm,
    Plain,
    Login,
    Anonymous,
)
"""Best first."""
BEARERS: tuple[type[Mechanism], ...] = (XOAuth2, OAuthBearer)
OPTIONS = ("noplaintext", "noactive", "nodictionary", "noanonymous", "mutual_auth", "forward_secrecy")


def meets(mechanism: type[Mechanism], options: Iterable[str]) -> bool:
    """Whether a mechanism has the properties that security options demand."""
    has = {
        "noplaintext": not mechanism.plaintext,
        "noactive": not mechanism.active,
        "nodictionary": not mechanism.dictionary,
        "noanonymous": not mechanism.anonymous,
        "mutual_auth": mechanism.mutual,
        "forward_secrecy": mechanism.forward_secret,
    }
    return all(has[option] for option in options)


def words(offered: str) -> list[str]:
    """The names in a server's list, in upper case; whatever is not part of a name separates them."""
    return [word.upper() for word in re.split(r"[^A-Za-z0-9_-]+", offered) if word]


def choose(
    offered: str, options: Iterable[str], credentials: Credentials, *, bearer: bool = False
) -> tuple[str, Mechanism]:
    """The mechanism to use, by its name on the wire. `bearer`: the password is a token source. Raises SASLError."""
    names = set(words(offered))
    options = frozenset(options)
    if all(name.endswith("-PLUS") for name in names) and not credentials.bindings:
        raise SASLError(NOMECH)
    candidates = BEARERS if bearer else ORDER
    bound = _bound(names, options, credentials.bindings) if not bearer else None
    if bound is not None:
        return f"{bound.name}-PLUS", bound(credentials, plus=True)
    for mechanism in candidates:
        if mechanism.name in names and meets(mechanism, options) and _installed(mechanism):
            return mechanism.name, mechanism(credentials)
    raise SASLError(NOMECH, "No worthy mechs found")


def _bound(names: set[str], options: frozenset[str], bindings: Mapping[str, bytes]) -> type[Scram] | None:
    """The best mechanism with channel binding."""
    if not any(name in bindings for name in BINDINGS):
        return None
    for mechanism in ORDER:
        if issubclass(mechanism, Scram) and f"{mechanism.name}-PLUS" in names and meets(mechanism, options):
            return mechanism
    return None


def _installed(mechanism: type[Mechanism]) -> bool:
    if mechanism is Ntlm:
        return ntlm_available()
    return gssapi_available() if mechanism is Gssapi else True
