"""The providers of docs/oauth.md, as far as a client can tell: token endpoints, and submission servers behind STARTTLS
that take mail only from who shows a token of theirs (or, where there is no OAuth 2.0, a password).

    python relays.py CERTIFICATE        says "ready", then a JSON line for each form, each AUTH and each message
"""

import base64
import http.server
import json
import re
import socketserver
import ssl
import sys
import threading
from typing import Any
from urllib.parse import parse_qs

WEB = "10.0.1.1"
RELAYS = {
    "10.0.1.2": "LOGIN PLAIN XOAUTH2 PLAIN-CLIENTTOKEN OAUTHBEARER XOAUTH",  # as smtp.gmail.com
    "10.0.1.3": "LOGIN XOAUTH2",  # as smtp.office365.com
    "10.0.1.4": "OAUTHBEARER",
    "10.0.1.5": "PLAIN LOGIN",  # as Amazon SES
}
CODE, SECRET, PASSWORD = "the-code", "the-secret", "the-password"

tokens: set[str] = set()
refresh_tokens: set[str] = set()
lock = threading.Lock()
asked_for_device = 0
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)


def say(**what: object) -> None:
    with lock:
        print(json.dumps(what), flush=True)


class Web(http.server.BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        form = {name: values[0] for name, values in parse_qs(body).items()}
        say(host=self.headers["Host"], path=self.path, grant=form.get("grant_type", ""), scope=form.get("scope", ""))
        device = {"device_code": "D", "user_code": "U", "verification_uri": "https://idp.example/", "interval": 0}
        answer = device if self.path.endswith("/devicecode") else self.token(form)
        data = json.dumps(answer).encode()
        self.send_response(400 if "error" in answer else 200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def token(self, form: dict[str, str]) -> dict[str, Any]:
        global asked_for_device
        kind = form.get("grant_type", "")
        if form.get("client_id") != "the-client":
            return {"error": "invalid_client"}
        if kind == "urn:ietf:params:oauth:grant-type:device_code":
            asked_for_device += 1
            if asked_for_device == 1:
                return {"error": "authorization_pending"}
        elif kind == "authorization_code":
            if form["code"] != CODE or form.get("client_secret", SECRET) != SECRET:
                return {"error": "invalid_grant"}
        elif kind == "refresh_token":
            if form["refresh_token"] not in refresh_tokens:
                return {"error": "invalid_grant"}
        elif kind != "client_credentials" or form.get("client_secret") != SECRET:
            return {"error": "invalid_client"}
        access = f"access-{len(tokens) + 1}-of-mine"
        tokens.add(access)
        answer: dict[str, Any] = {"access_token": access, "token_type": "Bearer"}
        # What a consent gives is over at once: the client has to renew it.
        answer["expires_in"] = 3600 if kind in ("refresh_token", "client_credentials") else 1
        if kind not in ("refresh_token", "client_credentials"):
            refresh_tokens.add(f"refresh-{len(refresh_tokens)}-of-mine")
            answer["refresh_token"] = sorted(refresh_tokens)[-1]
        return answer

    def log_message(self, *words: object) -> None:
        pass


class Relay(socketserver.StreamRequestHandler):
    """A submission server."""

    def handle(self) -> None:
        name = self.server.server_address[0]  # type: ignore[attr-defined]  # it is one of TCP
        secure, user = False, ""
        file: Any = self.request.makefile("rwb", 0)

        def send(text: str) -> None:
            file.write(text.encode() + b"\r\n")

        send("220 relay ESMTP")
        while line := file.readline():
            words = line.decode().split()
            verb = words[0].upper() if words else ""
            if verb == "EHLO":
                send("250-relay\r\n" + (f"250 AUTH {RELAYS[name]}" if secure else "250 STARTTLS"))
            elif verb == "STARTTLS":
                send("220 go")
                file = context.wrap_socket(self.request, server_side=True).makefile("rwb", 0)
                secure = True
            elif verb == "AUTH" and secure and words[1] in RELAYS[name].split():
                text = base64.b64decode(words[2] if len(words) > 2 else b"").decode()
                user = who(words[1], text)
                say(relay=name, mechanism=words[1], user=user)
                send("235 ok" if user else "535 5.7.8 no")
            elif verb == "MAIL" and not user:
                send("530 5.7.0 authentication required")
            elif verb == "DATA":
                send("354 go")
                while file.readline() not in (b".\r\n", b""):
                    pass
                say(relay=name, mail=user)
                send("250 ok")
            elif verb == "QUIT":
                send("221 bye")
                break
            else:
                send("250 ok")


def who(mechanism: str, text: str) -> str:
    """The user who has shown a good token or password, "" if it is none."""
    if mechanism == "PLAIN":
        _, user, password = text.split("\0")
        return user if password == PASSWORD else ""
    user = (re.match(r"user=([^\x01]+)\x01", text) or re.match(r"n,a=([^,]+),", text) or ["", ""])[1]
    token = re.search(r"auth=Bearer ([^\x01]+)\x01", text)
    return user if token and token[1] in tokens else ""


class Servers(socketserver.ThreadingTCPServer):
    daemon_threads = True
    allow_reuse_address = True


class WebServers(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def get_request(self) -> Any:
        sock, address = super().get_request()
        return context.wrap_socket(sock, server_side=True, do_handshake_on_connect=False), address


if __name__ == "__main__":
    context.load_cert_chain(sys.argv[1])
    servers: list[socketserver.BaseServer] = [WebServers((WEB, 443), Web)]
    servers += [Servers((address, 587), Relay) for address in RELAYS]
    for server in servers:
        threading.Thread(target=server.serve_forever, daemon=True).start()
    print("ready", flush=True)
    threading.Event().wait()
