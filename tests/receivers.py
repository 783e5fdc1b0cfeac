"""A client's receiver: a real server on this machine with responses set by a test; it keeps what it gets."""

import base64
import hashlib
import hmac
import json
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True)
class Received:
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def payload(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.body)
        return found

    def is_signed_with(self, secret: str) -> bool:
        """Verify as a client would, without our code."""
        message = self.headers["X-Mindsay-Request-Timestamp"].encode() + self.body
        expected = hmac.new(secret.encode(), message, hashlib.sha256).hexdigest()
        return hmac.compare_digest(expected, self.headers["X-Mindsay-Signature"])

    def is_webhook_of(self, secret: str) -> bool:
        """Verify as Standard Webhooks says, without our code."""
        message_id, timestamp = self.headers["webhook-id"], self.headers["webhook-timestamp"]
        key = base64.b64decode(secret.removeprefix("whsec_"))
        made = hmac.new(key, f"{message_id}.{timestamp}.".encode() + self.body, hashlib.sha256).digest()
        return f"v1,{base64.b64encode(made).decode()}" in self.headers["webhook-signature"].split(" ")


@dataclass
class Receiver:
    """`answers` are given in turn, then always the last. `before_answer` and `respond` are called by its threads.

    `respond` returns the body that answers what was received, in place of `body`. `handle` answers in place of all of
    these, on the connection, and then nothing is kept.
    """

    answers: list[int] = field(default_factory=lambda: [200])
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b"thank you"
    before_answer: Callable[[], None] = lambda: None
    respond: Callable[[Received], bytes] | None = None
    handle: Callable[[Received, BaseHTTPRequestHandler], None] | None = None
    received: list[Received] = field(default_factory=list)
    scheme: str = "http"
    port: int = 0

    def url(self, path: str = "/hook", host: str = "127.0.0.1") -> str:
        return f"{self.scheme}://{host}:{self.port}{path}"

    @property
    def events(self) -> list[str]:
        return [one.payload["event"] for one in self.received]

    def _answer(self) -> int:
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


@contextmanager
def receiving(*answers: int, tls: ssl.SSLContext | None = None, **options: Any) -> Iterator[Receiver]:
    receiver = Receiver(answers=list(answers or [200]), scheme="https" if tls else "http", **options)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            received = Received(self.path, dict(self.headers.items()), body)
            if receiver.handle:
                receiver.handle(received, self)
                return
            receiver.received.append(received)
            receiver.before_answer()
            answer = receiver.respond(received) if receiver.respond else receiver.body
            self.send_response(receiver._answer())
            for name, value in receiver.headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(answer)

        do_GET = do_POST  # noqa: N815

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  its own name
            pass

    class Server(ThreadingHTTPServer):
        request_queue_size = 128

        def handle_error(self, request: Any, client_address: Any) -> None:
            """Ignore connections that the other side has closed."""

    server = Server(("127.0.0.1", 0), Handler)
    if tls:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    receiver.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield receiver
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
