"""A receiver of webhooks, which checks their signatures."""

import base64
import hashlib
import hmac
import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Received:
    path: str
    headers: dict[str, str]
    content: bytes
    status: int
    at: float = field(default_factory=time.monotonic)

    @property
    def body(self) -> dict:
        return json.loads(self.content)


class Receiver:
    """An HTTP server that records requests.

    Attributes:
        status: returns the status of the response to an attempt of an event; the first attempt is 1.
    """

    def __init__(self) -> None:
        self.reset()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                content = self.rfile.read(int(self.headers["content-length"]))
                headers = {name.lower(): value for name, value in self.headers.items()}
                ids = [item.headers["webhook-id"] for item in receiver.received]
                status = receiver.status(ids.count(headers["webhook-id"]) + 1)
                receiver.received.append(Received(self.path, headers, content, status))
                self.send_response(status)
                if status == 302:
                    self.send_header("Location", "http://127.0.0.1:9/")
                self.end_headers()

            def log_message(self, *_: object) -> None: ...

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.host = f"127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def reset(self) -> None:
        self.received: list[Received] = []
        self.status: Callable[[int], int] = lambda attempt: 204

    def accepted(self, kind: str | None = None) -> list[Received]:
        found = [item for item in self.received if 200 <= item.status < 300]
        return [item for item in found if kind is None or item.body["type"] == kind]

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


def is_valid(item: Received, secret: str) -> bool:
    """Checks a signature as Standard Webhooks 1.0 says."""
    key = base64.b64decode(secret.removeprefix("whsec_"))
    signed = b".".join((item.headers["webhook-id"].encode(), item.headers["webhook-timestamp"].encode(), item.content))
    expected = base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode()
    is_recent = abs(time.time() - int(item.headers["webhook-timestamp"])) < 60
    return is_recent and item.headers["webhook-signature"] == f"v1,{expected}"
