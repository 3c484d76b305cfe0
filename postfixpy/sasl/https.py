"""One HTTP request: a form sent to an endpoint, the whole answer back; small, in bounded time, without redirects.

Only https, but for servers on this machine. A redirect is an answer like another: what the form holds is a secret, and
goes nowhere but to the address that the administrator wrote. Blocks: call it in a thread.
"""

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode, urlsplit

if TYPE_CHECKING:
    from http.client import HTTPConnection, HTTPResponse

MAX_ANSWER = 65536
"""Bytes of an answer."""


BUNDLES = ("/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem")
"""Where systems have the certificates of authorities."""


class HTTPError(Exception):
    """No answer. str() says why, without what was sent."""


class CertificateError(HTTPError):
    """The server's certificate is not to be trusted."""


@dataclass(frozen=True, slots=True)
class Way:
    """How to reach an endpoint.

    proxy            ``http://host:port`` of a proxy, or ""
    ca_file, ca_dir  certificates to trust in place of the system's
    ca_data          certificates to trust in PEM, when neither is given; "" are the system's
    step, limit      seconds for each step, and for the whole
    """

    proxy: str = ""
    ca_file: str = ""
    ca_dir: str = ""
    ca_data: str = ""
    step: float = 10.0
    limit: float = 30.0


DIRECT = Way()


def check_endpoint(url: str) -> None:
    """Raises HTTPError for a URL that secrets must not be sent to."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname or "", parts.port
    except ValueError:
        raise HTTPError(f"not a URL: {url[:200]}") from None
    if parts.username is not None or parts.fragment or not host or not url.isascii() or not url.isprintable():
        raise HTTPError("not the URL of an endpoint: it needs a host, and no user, password or fragment")
    if parts.scheme != "https" and not (parts.scheme == "http" and _is_local(host)):
        raise HTTPError(f"{parts.scheme}://{host} is not encrypted: an endpoint is a https URL")


def _is_local(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def post_form(url: str, fields: Mapping[str, str], way: Way = DIRECT) -> tuple[int, bytes]:
    """The status and the body of the answer. Raises HTTPError."""
    check_endpoint(url)
    parts = urlsplit(url)
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    headers = {"Content-Type": "application/x-www-form-urlencoded", "Accept": "application/json"}
    response, body = ask(_connection(url, way), "POST", path, urlencode(fields), headers, way.step, way.limit)
    return response.status, body


def ask(
    connection: "HTTPConnection",
    method: str,
    path: str,
    data: str | None,
    headers: Mapping[str, str],
    step: float,
    limit: float,
) -> "tuple[HTTPResponse, bytes]":
    """The answer and its body; closes the connection. Raises HTTPError.

    `limit` are seconds for the whole; `step` is the connection's limit for each step, for the text.
    """
    import http.client
    import ssl
    import threading

    over = threading.Event()

    def stop() -> None:
        over.set()
        if connection.sock is not None:
            _shut(connection.sock)

    timer = threading.Timer(limit, stop)
    timer.daemon = True
    timer.start()
    try:
        connection.request(method, path, data, headers)
        with connection.getresponse() as response:
            body = response.read(MAX_ANSWER + 1)
        if over.is_set():
            raise HTTPError(f"no answer within {limit:g} seconds")
        if len(body) > MAX_ANSWER:
            raise HTTPError(f"an answer of more than {MAX_ANSWER} bytes")
        return response, body
    except ssl.SSLCertVerificationError as error:
        raise CertificateError(f"certificate of {_host(connection)}: {error.verify_message}") from None
    except TimeoutError:
        raise HTTPError(f"no answer within {step:g} seconds") from None
    except OSError as error:
        if over.is_set():
            raise HTTPError(f"no answer within {limit:g} seconds") from None
        raise HTTPError(error.strerror or type(error).__name__) from None
    except (http.client.HTTPException, ValueError) as error:
        if over.is_set():
            raise HTTPError(f"no answer within {limit:g} seconds") from None
        raise HTTPError(f"an answer that is not HTTP ({type(error).__name__})") from None
    finally:
        timer.cancel()
        connection.close()


def _host(connection: Any) -> str:
    """The server's name, beyond a proxy."""
    return str(connection._tunnel_host or connection.host)  # set_tunnel() has no public way back


def _connection(url: str, way: Way) -> Any:
    import http.client
    import ssl

    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port
    first, first_port = host, port
    if way.proxy:
        proxy = urlsplit(way.proxy if "//" in way.proxy else f"//{way.proxy}")
        first, first_port = proxy.hostname or "", proxy.port or 1080
        if proxy.scheme not in ("", "http") or not first:
            raise HTTPError("a proxy is http://host:port")
    if parts.scheme == "https":
        try:
            context = ssl.create_default_context(
                cafile=way.ca_file or None, capath=way.ca_dir or None, cadata=_trusted(way)
            )
        except (OSError, ValueError) as error:
            place = way.ca_file or way.ca_dir or "the system's certificates"
            raise HTTPError(f"{place}: {getattr(error, 'strerror', None) or error}") from None
        connection: Any = http.client.HTTPSConnection(first, first_port, timeout=way.step, context=context)
    else:
        connection = http.client.HTTPConnection(first, first_port, timeout=way.step)
    if way.proxy:
        connection.set_tunnel(host, port)
    return connection


def _trusted(way: Way) -> str | None:
    return None if way.ca_file or way.ca_dir else way.ca_data or None


def _shut(sock: Any) -> None:
    import socket

    try:
        sock.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass  # it is closed already
