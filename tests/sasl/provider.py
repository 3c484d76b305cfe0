"""An OAuth 2.0 provider on loopback, for tests: a token endpoint, a device endpoint, and what went wrong there."""

import http.server
import json
import threading
import time
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qs


class Provider:
    """`answers` are (status, body) to give in turn, the last one again and again; `asked` are the forms that came."""

    def __init__(self, *answers: tuple[int, Any], delay: float = 0.0) -> None:
        self.answers = list(answers)
        self.asked: list[dict[str, str]] = []
        self.delay = delay
        provider = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                form = self.rfile.read(int(self.headers["Content-Length"])).decode()
                provider.asked.append({name: values[0] for name, values in parse_qs(form).items()})
                time.sleep(provider.delay)
                status, body = provider.answers.pop(0) if len(provider.answers) > 1 else provider.answers[0]
                data = body if isinstance(body, bytes) else json.dumps(body).encode()
                self.send_response(status)
                if 300 <= status < 400:
                    self.send_header("Location", provider.url + "elsewhere")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *words: object) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.request_queue_size = 100
        self.url = f"http://127.0.0.1:{self.server.server_port}/token"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True)

    def __enter__(self) -> Self:
        self.thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


def token(number: int, lifetime: int = 3600, **more: str) -> tuple[int, dict[str, object]]:
    """An answer with a token."""
    return 200, {"access_token": f"access-{number}", "expires_in": lifetime, "token_type": "Bearer", **more}


REVOKED = (400, {"error": "invalid_grant", "error_description": "Token has been expired or revoked."})
