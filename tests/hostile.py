"""Servers on raw sockets that drip, are silent or never stop, as no real server can be made to."""

import re
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

# The interval of a dripping server's bytes: far shorter than any timeout.
PAUSE = 0.02
OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/xml\r\n"
_MIB = bytes(1024 * 1024)


@dataclass
class Hostile:
    port: int
    connections: int = 0
    requests: list[bytes] = field(default_factory=list)
    over: threading.Event = field(default_factory=threading.Event)
    ended: threading.Event = field(default_factory=threading.Event)  # a connection is, also by the other side

    def url(self, scheme: str = "http") -> str:
        return f"{scheme}://127.0.0.1:{self.port}"

    def hear(self, connection: socket.socket) -> bytes:
        """Wait for a request and return its head; b"" when the other side has gone."""
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            byte = connection.recv(1)
            if not byte:
                return b""
            head += byte
        self.requests.append(head)
        return head

    def drip(self, connection: socket.socket, text: bytes = b"a") -> None:
        while not self.over.wait(PAUSE):
            connection.sendall(text)

    def flood(self, connection: socket.socket, text: bytes = _MIB) -> None:
        while not self.over.is_set():
            connection.sendall(text)


Behaviour = Callable[[Hostile, socket.socket], None]


@contextmanager
def behaving(behave: Behaviour, tls: ssl.SSLContext | None = None) -> Iterator[Hostile]:
    """Run a server with this behaviour for each connection; with `tls` after the handshake."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listener:
        server = Hostile(listener.getsockname()[1])

        def serve(connection: socket.socket) -> None:
            with connection, suppress(OSError):
                connection.settimeout(30)
                if tls:
                    with tls.wrap_socket(connection, server_side=True) as encrypted:
                        behave(server, encrypted)
                else:
                    behave(server, connection)
            server.ended.set()

        def accept() -> None:
            with suppress(OSError):
                while True:
                    connection, _ = listener.accept()
                    server.connections += 1
                    threading.Thread(target=serve, args=[connection], daemon=True).start()

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.over.set()
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


def says_nothing(server: Hostile, connection: socket.socket) -> None:
    server.hear(connection)
    while connection.recv(65536):
        pass


def never_reads(server: Hostile, connection: socket.socket) -> None:
    server.over.wait()


def reads_slowly(server: Hostile, connection: socket.socket) -> None:
    while not server.over.wait(PAUSE):
        connection.recv(1)


def goes_on_and_hangs_up(server: Hostile, connection: socket.socket) -> None:
    server.hear(connection)
    connection.sendall(b"HTTP/1.1 100 Continue\r\n")


def drips_a_head(server: Hostile, connection: socket.socket) -> None:
    server.hear(connection)
    connection.sendall(OK + b"X-Long: ")
    server.drip(connection)


def drips_a_body(server: Hostile, connection: socket.socket) -> None:
    server.hear(connection)
    connection.sendall(OK + b"Content-Length: 1000000\r\n\r\n")
    server.drip(connection)


def drips_an_error(server: Hostile, connection: socket.socket) -> None:
    server.hear(connection)
    connection.sendall(b"HTTP/1.1 403 No\r\nContent-Length: 1000000\r\n\r\n")
    server.drip(connection)


def drips_chunks(server: Hostile, connection: socket.socket) -> None:
    server.hear(connection)
    connection.sendall(OK + b"Transfer-Encoding: chunked\r\n\r\n")
    server.drip(connection, b"1\r\na\r\n")


def drips_trailers(server: Hostile, connection: socket.socket) -> None:
    server.hear(connection)
    connection.sendall(OK + b"Transfer-Encoding: chunked\r\n\r\n0\r\n")
    server.drip(connection, b"X: a\r\n")


def drips_a_handshake(server: Hostile, connection: socket.socket) -> None:
    """Begin a record of TLS of 16,000 bytes, and send it one by one."""
    connection.sendall(b"\x16\x03\x03\x3e\x80")
    server.drip(connection)


def asks_to_go_on(server: Hostile, connection: socket.socket) -> None:
    server.hear(connection)
    server.drip(connection, b"HTTP/1.1 100 Continue\r\n\r\n")


def floods_with_interim_answers(server: Hostile, connection: socket.socket) -> None:
    server.hear(connection)
    server.flood(connection, b"HTTP/1.1 100 Continue\r\n\r\n" * 1000)


def floods_a_head(server: Hostile, connection: socket.socket) -> None:
    server.hear(connection)
    connection.sendall(OK + b"X-Long: ")
    server.flood(connection)


def floods_a_body(server: Hostile, connection: socket.socket) -> None:
    server.hear(connection)
    connection.sendall(OK + b"Content-Length: 1073741824\r\n\r\n")
    server.flood(connection)


def floods_an_error(server: Hostile, connection: socket.socket) -> None:
    server.hear(connection)
    connection.sendall(b"HTTP/1.1 404 No\r\n\r\n")
    server.flood(connection)


def floods_chunks(server: Hostile, connection: socket.socket) -> None:
    server.hear(connection)
    connection.sendall(OK + b"Transfer-Encoding: chunked\r\n\r\n")
    server.flood(connection, b"100000\r\n" + _MIB + b"\r\n")


def redirects_for_ever(server: Hostile, connection: socket.socket) -> None:
    while server.hear(connection):
        connection.sendall(
            b"HTTP/1.1 307 Go\r\nx-amz-bucket-region: eu-west-%d\r\nLocation: %s/there\r\nContent-Length: 0\r\n\r\n"
            % (len(server.requests), server.url().encode())
        )


@contextmanager
def swallowing(url: str, *, swallow: Callable[[bytes], bool]) -> Iterator[Hostile]:
    """Run a proxy that forwards each call, and closes without the response if `swallow` returns true for its head."""
    target = urlsplit(url)

    def behave(server: Hostile, connection: socket.socket) -> None:
        while head := server.hear(connection):
            length = re.search(rb"(?i)content-length: (\d+)", head)
            if b"100-continue" in head:
                connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
                head = head.replace(b"Expect: 100-continue\r\n", b"")
            body = connection.makefile("rb", 0)
            with socket.create_connection((target.hostname, target.port)) as beyond, beyond.makefile("rb") as answers:
                beyond.sendall(head + _exactly(body, int(length[1]) if length else 0))
                answer = b"".join(iter(answers.readline, b"\r\n")) + b"\r\n"
                length = None if head.startswith(b"HEAD") else re.search(rb"(?i)content-length: (\d+)", answer)
                answer += answers.read(int(length[1])) if length else b""
            if swallow(head):
                return
            connection.sendall(answer)

    with behaving(behave) as server:
        yield server


def _exactly(stream: Any, count: int) -> bytes:
    found = b""
    while len(found) < count and (more := stream.read(count - len(found))):
        found += more
    return found
