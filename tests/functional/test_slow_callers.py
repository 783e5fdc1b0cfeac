"""Slow callers cannot block the web server, whatever they leave unfinished."""

import http.client
import socket
import statistics
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress

import pytest

from config.web import limits
from tests.functional.slow_callers import KINDS, slow_callers
from tests.functional.web import WebServer, web_server

_SECONDS = 1
# The tests store nothing.
pytestmark = pytest.mark.django_db


@pytest.fixture(scope="module")
def server(django_db_setup: None) -> Iterator[WebServer]:
    with web_server() as server:
        connection = server.connect()
        connection.request("GET", "/api/schema/")  # which is made once
        connection.getresponse().read()
        connection.close()
        yield server


def waits(server: WebServer, path: str, *, seconds: float = _SECONDS) -> list[float]:
    """Call for some seconds on new connections, and return how long each response took."""
    taken, end = list[float](), time.monotonic() + seconds
    while time.monotonic() < end:
        began = time.monotonic()
        connection = server.connect()
        connection.request("GET", path)
        assert connection.getresponse().status == 200
        connection.close()
        taken.append(time.monotonic() - began)
        time.sleep(0.02)
    return sorted(taken)


def allowed(server: WebServer, path: str, seconds: float) -> float:
    """Return how long a response may take: these seconds, or on a busy machine a multiple of its usual time."""
    return max(seconds, 5 * statistics.median(waits(server, path, seconds=0.5)))


@contextmanager
def closing_all() -> Iterator[list[socket.socket]]:
    opened: list[socket.socket] = []
    try:
        yield opened
    finally:
        for each in opened:
            each.close()


def test_64_slow_callers_delay_no_other_call(server: WebServer) -> None:
    probe, page = allowed(server, "/healthz", 0.2), allowed(server, "/admin/login/", 1)
    with slow_callers(server.port, [*KINDS], number=64):
        probes, pages = waits(server, "/healthz"), waits(server, "/admin/login/")
    # Medians: what a busy machine adds to the slowest call is not the callers' doing.
    assert statistics.median(probes) <= probe
    assert pages[int(len(pages) * 0.99)] <= page


def until_closed(caller: socket.socket) -> float:
    """Return how many seconds pass until the server ends a connection; what it says before is thrown away."""
    began = time.monotonic()
    with suppress(ConnectionResetError):
        while caller.recv(65_536):
            pass
    return time.monotonic() - began


@pytest.mark.long(reason="waits for the limits of time to pass")
def test_callers_below_the_minimum_rate_are_cut_off_and_others_are_not(server: WebServer) -> None:
    kinds = {
        "silent": limits.HEAD_SECONDS,
        "half_a_header": limits.HEAD_SECONDS,
        "dripping_head": limits.HEAD_SECONDS,
        "dripping_body": limits.BODY_SECONDS,
        "dripping_chunks": limits.BODY_SECONDS,
        "kept_open": limits.IDLE_SECONDS,
    }
    with closing_all() as callers, ThreadPoolExecutor(len(kinds) + 1) as threads:
        answer = threads.submit(send_slowly, server, seconds=1.2 * limits.BODY_SECONDS)
        for kind in kinds:
            callers.append(socket.create_connection(("127.0.0.1", server.port), timeout=90))
            KINDS[kind](callers[-1])
        taken = list(threads.map(until_closed, callers))
        assert answer.result().startswith(b"HTTP/1.1 ")
    for seconds, granted in zip(taken, kinds.values(), strict=True):
        assert granted - 1 <= seconds <= granted + 15


def send_slowly(server: WebServer, *, seconds: float) -> bytes:
    """Send, over these seconds, what is read before authentication; return the start of the response."""
    length, pieces = limits.SMALL_BODY_BYTES, 32
    head = "POST /admin/login/ HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/x-www-form-urlencoded\r\n"
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as caller:
        caller.sendall(f"{head}Content-Length: {length}\r\n\r\n".encode())
        for _ in range(pieces):
            caller.sendall(b"a" * (length // pieces))
            time.sleep(seconds / pieces)
        return caller.recv(12)


def test_the_longest_connected_slow_caller_is_dropped_first(server: WebServer) -> None:
    with closing_all() as callers:
        for _ in range(limits.CONNECTIONS + 5):
            callers.append(socket.create_connection(("127.0.0.1", server.port), timeout=5))
        assert callers[0].recv(1) == b""
        callers[-1].sendall(b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        assert callers[-1].recv(12) == b"HTTP/1.1 200"


def test_a_new_caller_is_served_when_all_connections_are_taken(server: WebServer) -> None:
    number, most = limits.CONNECTIONS + 10, allowed(server, "/healthz", 5)
    with slow_callers(server.port, ["silent"], number=number):
        assert waits(server, "/healthz")[-1] <= most


@pytest.mark.long(reason="how soon 200 bursts are over is a matter of the machine")
def test_thousands_of_pipelined_requests_delay_no_other_call(server: WebServer) -> None:
    most = allowed(server, "/healthz", 0.5)
    with closing_all() as callers:
        for _ in range(200):
            callers.append(socket.create_connection(("127.0.0.1", server.port), timeout=30))
            callers[-1].sendall((b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n" * 1_500)[:64_000])
        # Long enough that most calls come after the burst, unless it is served whole.
        probes = waits(server, "/healthz", seconds=5)
        answers = b""
        while piece := callers[0].recv(65_536):
            answers += piece
    assert statistics.median(probes) <= most
    statuses = [answer[:3] for answer in answers.split(b"HTTP/1.1 ")[1:]]
    assert statuses == [b"200"] * limits.AT_ONCE + [b"400"]


@pytest.mark.long(reason="300 callers, and memory is measured")
def test_a_caller_that_reads_no_response_costs_little_memory(server: WebServer) -> None:
    asked = b"GET /api/schema/ HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n" * limits.AT_ONCE
    before = server.peak_memory_of_all()
    with closing_all() as callers:
        for _ in range(300):
            caller = socket.socket()
            caller.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
            caller.connect(("127.0.0.1", server.port))
            caller.sendall(asked)
            callers.append(caller)
        assert waits(server, "/healthz")
    # Unbounded it would be 1,500 MB.
    assert server.peak_memory_of_all() - before <= 300 * 1024 * 1024


def test_a_received_call_is_answered_when_the_server_stops() -> None:
    with web_server() as server:
        connection = server.connect()
        connection.request("GET", "/healthz")
        connection.getresponse().read()
        server.stop()
        connection.request("GET", "/healthz")
        answer = connection.getresponse()
        assert (answer.status, answer.getheader("Connection")) == (200, "close")
        fresh = http.client.HTTPConnection("127.0.0.1", server.port, timeout=5)
        with pytest.raises(OSError):
            fresh.request("GET", "/healthz")
