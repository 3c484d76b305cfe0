"""Requests to a token endpoint."""

import socket
import threading

import pytest

from postfixpy.sasl.https import MAX_ANSWER, HTTPError, Way, check_endpoint, post_form

from .provider import Provider


def test_a_form_and_its_answer() -> None:
    with Provider((200, b"answer")) as provider:
        assert post_form(provider.url, {"a": "1 &", "b": "\u00fc"}) == (200, b"answer")
        assert provider.asked == [{"a": "1 &", "b": "\u00fc"}]


def test_redirects_are_not_followed() -> None:
    with Provider((307, b"")) as provider:
        assert post_form(provider.url, {"secret": "x"})[0] == 307
        assert len(provider.asked) == 1


def test_large_answer() -> None:
    with Provider((200, b"x" * (MAX_ANSWER + 1))) as provider, pytest.raises(HTTPError, match="more than"):
        post_form(provider.url, {})


def test_nobody_there() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with pytest.raises(HTTPError, match="Connection refused"):
        post_form(f"http://127.0.0.1:{port}/", {})


def drip(server: socket.socket, stop: threading.Event) -> None:
    connection, _ = server.accept()
    with connection:
        try:
            while not stop.wait(0.02):
                connection.sendall(b"H")
        except OSError:
            pass


def test_an_answer_that_never_ends() -> None:
    stop = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=drip, args=(server, stop))
        thread.start()
        with pytest.raises(HTTPError, match=r"no answer within 0.3 seconds"):
            post_form(f"http://127.0.0.1:{server.getsockname()[1]}/", {}, Way(limit=0.3))
        stop.set()
        thread.join()


def test_a_server_that_says_nothing() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, pytest.raises(HTTPError, match="no answer within"):
        post_form(f"http://127.0.0.1:{server.getsockname()[1]}/", {}, Way(step=0.1))


def test_no_http() -> None:
    def speak(server: socket.socket) -> None:
        connection, _ = server.accept()
        with connection:
            connection.recv(65536)
            connection.sendall(b"220 hello\r\n")

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=speak, args=(server,))
        thread.start()
        with pytest.raises(HTTPError, match="not HTTP"):
            post_form(f"http://127.0.0.1:{server.getsockname()[1]}/", {})
        thread.join()


def test_by_proxy() -> None:
    with Provider((200, b"")) as provider, pytest.raises(HTTPError):
        # The provider is no proxy: it does not know CONNECT.
        post_form("https://idp.example/token", {"secret": "x"}, Way(proxy=provider.url))
    assert provider.asked == []


@pytest.mark.parametrize(
    "url",
    [
        "http://idp.example/token",
        "ftp://idp.example/",
        "https://user:password@idp.example/",
        "https:///token",
        "https://idp.example/#x",
        "https://idp.example/\r\nX: y",
        "https://[::1",
        "file:///etc/passwd",
        "",
    ],
)
def test_no_endpoint(url: str) -> None:
    with pytest.raises(HTTPError):
        check_endpoint(url)
