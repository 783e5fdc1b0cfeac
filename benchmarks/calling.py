"""Call the API over HTTP with as little of the machine's time as possible, which the server shares.

Requests are built whole before the clock starts, and sent on connections that are kept.
"""

import json
import socket
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Lock
from typing import Any, NamedTuple, Self

from benchmarks.filling import FilledChatbot
from chatbots.authentication import SIGNATURE_HEADER, TIMESTAMP_HEADER, sign
from chatbots.models import ApiKey, Chatbot
from chatbots.operations.keys import create_api_key

_THREADS = 4


class CallFailed(Exception):
    """The server answered with another status than 200; the text is its answer."""


class Answer(NamedTuple):
    status: int
    body: bytes
    keeps: bool


class Signer:
    """A client company's program, with a signing key of one chatbot."""

    def __init__(self, filled: FilledChatbot) -> None:
        chatbot = Chatbot.objects.get(pk=filled.chatbot)
        key = create_api_key(chatbot=chatbot, type=ApiKey.Type.SIGNING, label="benchmark", actor="command")
        self._secret = str(key.secret)
        self._slug = filled.slug

    def deletion(self, value: str) -> bytes:
        """Return the whole HTTP request that files a deletion; it is good for five minutes."""
        who = {"unique_chatter_identifier_key": "member_id", "unique_chatter_identifier_value": value}
        body = json.dumps(who).encode()
        timestamp = str(int(time.time()))
        lines = [
            f"POST /api/v1/chatbots/{self._slug}/data-deletion HTTP/1.1",
            "Host: 127.0.0.1",
            "Content-Type: application/json",
            f"Content-Length: {len(body)}",
            f"{TIMESTAMP_HEADER}: {timestamp}",
            f"{SIGNATURE_HEADER}: {sign(secret=self._secret, timestamp=timestamp, body=body)}",
        ]
        return "\r\n".join([*lines, "", ""]).encode() + body


class Line:
    """A connection to a web server on this machine; opened anew when the server has closed it."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._socket: socket.socket | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    def call(self, request: bytes) -> Any:
        """Send a request and return the JSON of its answer. Raises CallFailed unless its status is 200."""
        try:
            answer = self._exchange(request)
        except OSError:
            # A kept connection may be closed at any time. The same signature again has the same answer.
            self._close()
            answer = self._exchange(request)
        if not answer.keeps:
            self._close()
        if answer.status != 200:
            raise CallFailed(f"{answer.status}: {answer.body.decode(errors='replace')[:500]}")
        return json.loads(answer.body)

    def _exchange(self, request: bytes) -> Answer:
        if self._socket is None:
            self._socket = socket.create_connection(("127.0.0.1", self._port), timeout=30)
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket.sendall(request)
        received = b""
        while b"\r\n\r\n" not in received:
            received += self._receive()
        head, _, body = received.partition(b"\r\n\r\n")
        status, *headers = head.decode("latin-1").lower().split("\r\n")
        named = dict(header.split(": ", 1) for header in headers)
        while len(body) < int(named["content-length"]):
            body += self._receive()
        return Answer(int(status.split()[1]), body, named.get("connection") != "close")

    def _receive(self) -> bytes:
        received = self._socket.recv(65_536) if self._socket else b""
        if not received:
            raise ConnectionResetError
        return received

    def _close(self) -> None:
        if self._socket:
            self._socket.close()
            self._socket = None


def call_all(port: int, requests: Sequence[bytes]) -> float:
    """Send all requests from a few threads, each on its own connection; return the seconds. Raises CallFailed."""
    waiting, lock = iter(requests), Lock()

    def shared() -> Iterator[bytes]:
        while True:
            with lock:
                request = next(waiting, None)
            if request is None:
                return
            yield request

    def work(_number: int) -> None:
        with Line(port) as line:
            for request in shared():
                line.call(request)

    with ThreadPoolExecutor(_THREADS) as threads:
        began = time.perf_counter()
        list(threads.map(work, range(_THREADS)))
        return time.perf_counter() - began
