"""Unauthenticated callers that are slow on purpose, each on its own connection."""

import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from threading import Event, Semaphore, Thread

_HOST = b"Host: 127.0.0.1\r\n"


def _silent(_caller: socket.socket) -> None:
    pass


def _half_a_header(caller: socket.socket) -> None:
    caller.sendall(b"GET /healt")


def _dripping_head(caller: socket.socket) -> None:
    caller.sendall(b"GET /healthz HTTP/1.1\r\n" + _HOST + b"X-Drip: ")


def _dripping_body(caller: socket.socket) -> None:
    """A call with a signature, which only its complete body can verify."""
    signed = f"X-Mindsay-Timestamp: {int(time.time())}\r\nX-Mindsay-Signature: {'0' * 64}\r\n".encode()
    head = b"POST /api/v1/chatbots/acme/data-deletion HTTP/1.1\r\n" + _HOST + signed
    caller.sendall(head + b"Content-Type: application/json\r\nContent-Length: 5000\r\n\r\n{")


def _dripping_chunks(caller: socket.socket) -> None:
    head = b"POST /admin/login/ HTTP/1.1\r\n" + _HOST + b"Content-Type: application/x-www-form-urlencoded\r\n"
    caller.sendall(head + b"Transfer-Encoding: chunked\r\n\r\nfff\r\n")


def _kept_open(caller: socket.socket) -> None:
    caller.sendall(b"GET /healthz HTTP/1.1\r\n" + _HOST + b"\r\n")


def _slow_reader(caller: socket.socket) -> None:
    """Asks for more than the buffers of its socket hold, and reads nothing."""
    caller.sendall(b"GET /api/schema/ HTTP/1.1\r\n" + _HOST + b"\r\n")


KINDS: dict[str, Callable[[socket.socket], None]] = {
    kind.__name__.strip("_"): kind
    for kind in (
        _silent,
        _half_a_header,
        _dripping_head,
        _dripping_body,
        _dripping_chunks,
        _kept_open,
        _slow_reader,
    )
}


@contextmanager
def slow_callers(port: int, kinds: list[str], *, number: int) -> Iterator[None]:
    """Run a number of slow callers of these kinds in turn; dripping ones send a byte a second."""
    over, sent = Event(), Semaphore(0)

    def hold(kind: str) -> None:
        with socket.socket() as caller, suppress(OSError):
            try:
                caller.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                caller.settimeout(10)
                caller.connect(("127.0.0.1", port))
                KINDS[kind](caller)
            finally:
                sent.release()
            while not over.wait(1):
                if kind.startswith("dripping"):
                    caller.sendall(b"a")

    threads = [Thread(target=hold, args=(kinds[each % len(kinds)],), daemon=True) for each in range(number)]
    for thread in threads:
        thread.start()
    for _ in threads:
        sent.acquire(timeout=10)
    try:
        yield
    finally:
        over.set()
        for thread in threads:
            thread.join(15)
