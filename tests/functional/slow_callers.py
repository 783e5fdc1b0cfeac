"""Unauthenticated callers that are slow on purpose, each on its own connection."""

import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from threading import Event, Semaphore, Thread

_HOST = b"Host: 127.0.0.1\r\n"


def half_a_head(caller: socket.socket) -> None:
    caller.sendall(b"GET /healthz HTTP/1.1\r\n" + _HOST + b"X-Half: ")


def signed_body(caller: socket.socket) -> None:
    """A call with a signature, which only its complete body can verify."""
    signed = f"X-Mindsay-Timestamp: {int(time.time())}\r\nX-Mindsay-Signature: {'0' * 64}\r\n".encode()
    head = b"POST /api/v1/chatbots/acme/requests/batch HTTP/1.1\r\n" + _HOST + signed
    caller.sendall(head + b"Content-Type: application/json\r\nContent-Length: 1000000\r\n\r\n{")


def no_reader(caller: socket.socket) -> None:
    """Asks for more than the buffers of its socket hold, and reads nothing."""
    caller.sendall(b"GET /api/schema/ HTTP/1.1\r\n" + _HOST + b"\r\n")


_DRIPS = {signed_body}


@contextmanager
def slow_callers(
    connect: Callable[[str], socket.socket], kinds: list[Callable[[socket.socket], None]], *, each: int
) -> Iterator[None]:
    """Run this many callers of each kind, each kind from an address of its own; a dripping one a byte a second."""
    over, sent = Event(), Semaphore(0)

    def hold(kind: Callable[[socket.socket], None], source: str) -> None:
        with suppress(OSError):
            try:
                caller = connect(source)
                kind(caller)
            finally:
                sent.release()
            with caller:
                while not over.wait(1):
                    if kind in _DRIPS:
                        caller.sendall(b"a")

    threads = [
        Thread(target=hold, args=(kind, f"127.0.0.{number}"), daemon=True)
        for number, kind in enumerate(kinds, 2)
        for _ in range(each)
    ]
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
