"""The wire changes connections exactly as documented: otherwise a test of a fault would show nothing."""

import socket
import socketserver
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.wire import Wire

HEARD: list[bytes] = []


class Echo(socketserver.BaseRequestHandler):
    """Sends back received data, which is in HEARD."""

    def handle(self) -> None:
        try:
            while piece := self.request.recv(65_536):
                HEARD.append(piece)
                self.request.sendall(piece)
        except OSError:
            return


def serving(server: socketserver.BaseServer) -> Iterator[socketserver.BaseServer]:
    HEARD.clear()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def wire() -> Iterator[Wire]:
    server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Echo)
    server.daemon_threads = True
    for _ in serving(server):
        with Wire(server.server_address) as wire:
            yield wire


def connect(wire: Wire) -> socket.socket:
    return socket.create_connection(("127.0.0.1", wire.port), timeout=5)


def echo(connection: socket.socket, text: bytes = b"hello") -> bytes:
    """Send a text beside reading what comes back, until all of it has or the connection ends."""
    sender = threading.Thread(target=connection.sendall, args=(text,))
    sender.start()
    found = b""
    while len(found) < len(text) and (piece := connection.recv(65_536)):
        found += piece
    sender.join()
    return found


def is_reset(connection: socket.socket) -> bool:
    try:
        return connection.recv(1) == b""
    except ConnectionResetError:
        return True


def test_it_passes_on_both_ways_whatever_the_size_and_the_end_of_one_side(wire: Wire) -> None:
    large = bytes(range(256)) * 10_000
    with connect(wire) as connection:
        assert echo(connection, large) == large
        connection.sendall(b"last words")
        connection.shutdown(socket.SHUT_WR)
        assert b"".join(iter(lambda: connection.recv(100), b"")) == b"last words"


def test_it_refuses_connections_and_cuts_open_ones(wire: Wire) -> None:
    with connect(wire) as connection:
        assert echo(connection) == b"hello"
        wire.refuse()
        assert is_reset(connection)
    with pytest.raises(ConnectionRefusedError):
        connect(wire)
    wire.restore()
    with connect(wire) as connection:
        assert echo(connection) == b"hello"


def test_it_cuts_what_is_open_and_takes_others(wire: Wire) -> None:
    with connect(wire) as connection:
        assert echo(connection) == b"hello"
        wire.cut()
        assert is_reset(connection)
    with connect(wire) as connection:
        assert echo(connection) == b"hello"


def test_it_hangs_and_goes_on_where_it_was(wire: Wire) -> None:
    with connect(wire) as before:
        assert echo(before) == b"hello"
        wire.hang()
        with connect(wire) as meanwhile:
            for connection in (before, meanwhile):
                connection.sendall(b"silence")
                connection.settimeout(0.2)
                with pytest.raises(TimeoutError):
                    connection.recv(100)
                connection.settimeout(5)
            wire.restore()
            assert [connection.recv(100) for connection in (before, meanwhile)] == [b"silence", b"silence"]


def test_it_slows_down_without_losing_anything(wire: Wire) -> None:
    wire.slow(2_000)
    began = time.monotonic()
    with connect(wire) as connection:
        assert echo(connection, b"x" * 1_000) == b"x" * 1_000
    # At that rate it cannot be faster; it may be slower.
    assert time.monotonic() - began > 0.4


def test_it_loses_answers_to_what_was_heard(wire: Wire) -> None:
    wire.lose_answers()
    with connect(wire) as connection:
        connection.sendall(b"do it")
        assert is_reset(connection)
    assert HEARD == [b"do it"]


def test_it_loses_the_next_answer_of_open_connections_alone(wire: Wire) -> None:
    with connect(wire) as before:
        assert echo(before) == b"hello"
        wire.lose_next_answers()
        with connect(wire) as after:
            assert echo(after, b"works") == b"works"
        before.sendall(b"do it")
        assert is_reset(before)
    assert HEARD == [b"hello", b"works", b"do it"]


def test_it_resets_connections_while_the_server_is_down() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with Wire(("127.0.0.1", port)) as wire:
        try:
            with connect(wire) as connection:
                assert is_reset(connection)
        except ConnectionResetError:
            pass  # already while it was made


def test_it_leads_to_a_unix_socket(tmp_path: Path) -> None:
    for _ in serving(socketserver.ThreadingUnixStreamServer(str(tmp_path / "socket"), Echo)):
        with Wire(tmp_path / "socket") as wire, connect(wire) as connection:
            assert echo(connection) == b"hello"
