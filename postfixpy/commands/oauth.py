"""postfixpy oauth: the first access token of a mail account, and a test of the file that keeps it.

    postfixpy oauth get-token gmail   --client-id ID [options] FILE
    postfixpy oauth get-token outlook --client-id ID [--tenant TENANT] [--device] [options] FILE
    postfixpy oauth get-token other   --client-id ID --token-url URL --auth-url URL | --device-url URL [options] FILE
    postfixpy oauth test FILE         get a token as the SMTP client would, and say until when it is good

    --client-secret-file FILE   the client's secret; without it you are asked, if the service has one
    --scope SCOPE               what is asked for; each service has a default
    --user ADDRESS              whose token it is, if that is not the user in the password map
    --device                    by a code that you enter on another device (RFC 8628)

The user opens an address in any browser, on any machine, and then enters a code there (--device), or pastes here the
address that the browser ends at (which may look like an error). FILE gets the keys of the plug-in sasl-xoauth2; keys
that it has already and that are not asked for stay. What to write in main.cf is in docs/oauth.md.
"""

import base64
import hashlib
import json
import os
import secrets
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

from postfixpy.errors import FatalError
from postfixpy.sasl import token_source
from postfixpy.sasl.https import HTTPError, check_endpoint, post_form
from postfixpy.sasl.mechanism import TokenError
from postfixpy.sasl.token_source import Source, Token, answer_of, token_of

_MICROSOFT = "https://login.microsoftonline.com"
_DEVICE_GRANT = "urn:ietf:params:oauth:grant-type:device_code"
_LOOPBACK = "http://127.0.0.1:54332/oauth2_result"


@dataclass(frozen=True, slots=True)
class Service:
    """A provider: its addresses, what to ask for, and whether its clients have secrets."""

    auth_url: str = ""
    token_url: str = ""
    device_url: str = ""
    scope: str = ""
    redirect: str = _LOOPBACK
    secret: bool = True
    extra: tuple[tuple[str, str], ...] = ()


def services(tenant: str) -> dict[str, Service]:
    """The providers that are known by name."""
    base = f"{_MICROSOFT}/{tenant}/oauth2/v2.0"
    return {
        "gmail": Service(
            "https://accounts.google.com/o/oauth2/v2/auth",
            "https://oauth2.googleapis.com/token",
            scope="https://mail.google.com/",
            extra=(("access_type", "offline"), ("prompt", "consent")),
        ),
        "outlook": Service(
            f"{base}/authorize",
            f"{base}/token",
            f"{base}/devicecode",
            "offline_access https://outlook.office.com/SMTP.Send",
            f"{_MICROSOFT}/common/oauth2/nativeclient",
            secret=False,
        ),
        "other": Service(),
    }


_OPTIONS = {
    "--client-id", "--client-secret-file", "--tenant", "--scope", "--user", "--auth-url", "--token-url", "--device-url",
}  # fmt: skip


def main(argv: list[str]) -> int:
    """Run the command. Returns the exit status: 64 for wrong usage. Raises FatalError."""
    words = argv[1:]
    if words[:1] in (["--help"], ["-h"]):
        sys.stdout.write(__doc__)
        return 0
    if words[:1] == ["test"] and len(words) == 2:
        return test(words[1])
    if words[:1] == ["get-token"]:
        parsed = _options(words[1:])
        if parsed is not None:
            return get_token(*parsed)
    sys.stderr.write(__doc__.partition("\n\n")[2].partition("\n\n")[0] + "\n")
    return 64


def _options(words: list[str]) -> tuple[Service, dict[str, str], str, bool] | None:
    """The service, the options by name, the file, and whether to use a device code; None for wrong usage."""
    names: dict[str, str] = {}
    rest: list[str] = []
    device = False
    while words:
        word = words.pop(0)
        if word == "--device":
            device = True
        elif word in _OPTIONS and words:
            names[word] = words.pop(0)
        elif word.startswith("-"):
            return None
        else:
            rest.append(word)
    known = services(names.get("--tenant", "consumers"))
    if len(rest) != 2 or rest[0] not in known or "--client-id" not in names:
        return None
    service = known[rest[0]]
    service = replace(
        service,
        auth_url=names.get("--auth-url", service.auth_url),
        token_url=names.get("--token-url", service.token_url),
        device_url=names.get("--device-url", service.device_url),
        scope=names.get("--scope", service.scope),
    )
    needed = service.device_url if device else service.auth_url
    return (service, names, rest[1], device) if service.token_url and needed else None


def get_token(service: Service, options: Mapping[str, str], path: str, device: bool) -> int:
    """Get a token by the user's consent, and write it. Raises FatalError."""
    existing = _existing(path)
    source = Source(
        path,
        options["--client-id"],
        _client_secret(service, options, device),
        service.token_url,
        scope=service.scope,
    )
    try:
        check_endpoint(source.token_endpoint)
        token = by_device(service, source, _say) if device else by_browser(service, source, _say, _ask)
    except (TokenError, HTTPError) as error:
        raise FatalError(str(error)) from None
    if not token.refresh:
        raise FatalError("the provider gave no refresh token: ask for one by --scope (offline_access, or the like)")
    found = {
        **existing,
        "client_id": source.client_id,
        "client_secret": source.client_secret,
        "token_endpoint": source.token_endpoint,
        "scope": source.scope,
        "refresh_token": token.refresh,
        "access_token": token.access,
        "expiry": str(int(token.expiry)),
    }
    if "--user" in options:
        found["user"] = options["--user"]
    _write(path, found)
    _say(f"{path}: written. It must be readable for the user that smtp runs as (mail_owner).")
    return 0


def _client_secret(service: Service, options: Mapping[str, str], device: bool) -> str:
    path = options.get("--client-secret-file")
    if path is not None:
        try:
            with open(path, encoding="utf-8") as file:
                return file.read(4096).strip()
        except OSError as error:
            raise FatalError(f"open {path}: {error.strerror}") from None
    if not service.secret or device or not sys.stdin.isatty():
        return ""
    import getpass

    return getpass.getpass("Client secret (empty for none): ")


def by_browser(service: Service, source: Source, say: Callable[[str], None], ask: Callable[[str], str]) -> Token:
    """The token for a code that the provider hands to a browser (RFC 6749 4.1, RFC 7636). Raises TokenError."""
    state, verifier = secrets.token_urlsafe(16), secrets.token_urlsafe(48)
    challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
    query = {
        "response_type": "code",
        "client_id": source.client_id,
        "redirect_uri": service.redirect,
        "scope": source.scope,
        "state": state,
        "code_challenge": challenge,
        "code_challenge_method": "S256",
        **dict(service.extra),
    }
    say(f"Open this address in a browser, and agree:\n\n{service.auth_url}?{urlencode(query)}\n")
    say("The browser then ends at an address that has code=... in it; the page may be empty, or an error.")
    answer = parse_qs(urlsplit(ask("That address: ").strip()).query)
    if "error" in answer:
        raise TokenError(f"the provider says: {source.hide(answer['error'][0])}")
    if answer.get("state") != [state] or "code" not in answer:
        raise TokenError("that address is not the answer to this request")
    fields = {
        "grant_type": "authorization_code",
        "code": answer["code"][0],
        "redirect_uri": service.redirect,
        "client_id": source.client_id,
        "code_verifier": verifier,
    }
    if source.client_secret:
        fields["client_secret"] = source.client_secret
    return token_source.request(source, fields, time.time())


def by_device(
    service: Service, source: Source, say: Callable[[str], None], pause: Callable[[float], None] = time.sleep
) -> Token:
    """The token for a code that the user enters elsewhere (RFC 8628). Raises TokenError, HTTPError."""
    check_endpoint(service.device_url)
    status, body = post_form(service.device_url, {"client_id": source.client_id, "scope": source.scope})
    begun = answer_of(body)
    code = begun.get("device_code")
    address = begun.get("verification_uri") or begun.get("verification_url")
    if status != 200 or not isinstance(code, str) or not isinstance(address, str):
        raise TokenError(f"{service.device_url} answered {status} {source.hide(str(begun.get('error', '')))}")
    say(f"Open {source.hide(address)} in a browser, and enter the code {source.hide(str(begun.get('user_code')))}")
    interval, left = _seconds(begun, "interval", 5), _seconds(begun, "expires_in", 900)
    fields = {"grant_type": _DEVICE_GRANT, "client_id": source.client_id, "device_code": code}
    if source.client_secret:
        fields["client_secret"] = source.client_secret
    while left > 0:
        pause(interval)
        left -= max(interval, 1)
        status, body = post_form(source.token_endpoint, fields)
        answer = answer_of(body)
        found = token_of(answer, time.time()) if status == 200 else None
        if found is not None:
            return found
        if answer.get("error") == "slow_down":
            interval += 5
        elif answer.get("error") != "authorization_pending":
            raise TokenError(f"{source.token_endpoint} answered {status} {source.hide(str(answer.get('error', '')))}")
    raise TokenError("the code has expired")


def _seconds(answer: Mapping[str, Any], name: str, default: int) -> float:
    value = answer.get(name, default)
    return min(float(value), 3600.0) if isinstance(value, int | float) and value >= 0 else float(default)


def test(path: str) -> int:
    """Get a token as the client would, from the file alone. Raises FatalError."""
    from postfixpy.sasl.oauth2 import Tokens

    tokens = Tokens()
    try:
        source = tokens.read(path)
        found = token_source.fetch(source, "", time.time())
    except TokenError as error:
        raise FatalError(str(error)) from None
    finally:
        tokens.close()
    until = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(found.expiry))
    if source.external:
        _say(f"{path}: has an access token of {len(found.access)} bytes, which another program renews")
        return 0
    where = source.command[0] if source.command else source.token_endpoint
    _say(f"{path}: {where} gave an access token of {len(found.access)} bytes, good until {until}")
    if found.refresh and found.refresh != source.refresh_token:
        _write(path, {**_existing(path), "refresh_token": found.refresh})
        _say(f"{path}: the provider replaced the refresh token; the new one is written")
    return 0


def _existing(path: str) -> dict[str, Any]:
    """What a file has already. Raises FatalError."""
    try:
        with open(path, "rb") as file:
            return token_source.parse(path, file.read(token_source.MAX_FILE + 1))
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise FatalError(f"open {path}: {error.strerror}") from None
    except TokenError as error:
        raise FatalError(f"{error}; it is left alone") from None


def _write(path: str, values: Mapping[str, Any]) -> None:
    """Replace the file; its owner stays. Raises FatalError."""
    new = f"{path}.new"
    try:
        owner = os.stat(path) if os.path.exists(path) else None
        fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
        with open(fd, "w", encoding="utf-8") as file:
            os.fchmod(fd, 0o600)
            if owner is not None and os.geteuid() == 0:
                os.fchown(fd, owner.st_uid, owner.st_gid)
            json.dump(values, file, indent=4)
            file.write("\n")
        os.replace(new, path)
    except OSError as error:
        raise FatalError(f"{path}: {error.strerror}") from None


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def _ask(prompt: str) -> str:
    sys.stdout.write(prompt)
    sys.stdout.flush()
    line = sys.stdin.readline(16384)
    if not line:
        raise FatalError("no answer")
    return line
