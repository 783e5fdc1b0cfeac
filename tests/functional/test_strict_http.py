"""HTTP that two servers in a row could read differently is refused, and not logged."""

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.functional.web import WebServer, web_server

# The tests store nothing.
pytestmark = pytest.mark.django_db

SECRET = b"alice-lovelace"


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("web") / "web.log"


@pytest.fixture(scope="module")
def server(django_db_setup: None, django_db_blocker: pytest.FixtureRequest, log: Path) -> Iterator[WebServer]:
    with django_db_blocker.unblock(), web_server(log=log, LOG_LEVEL="DEBUG") as server:  # type: ignore[attr-defined]
        yield server


def exchange(server: WebServer, raw: bytes) -> bytes:
    """Send bytes and return all that comes back until the server closes."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as caller:
        caller.sendall(raw)
        caller.shutdown(socket.SHUT_WR)
        answer = b""
        while piece := caller.recv(65_536):
            answer += piece
    return answer


HOST = b"Host: 127.0.0.1\r\n"
POST = b"POST /api/v1/chatbots/" + SECRET + b"/data-deletion HTTP/1.1\r\n" + HOST
GET = b"GET /healthz HTTP/1.1\r\n" + HOST
CHUNKED = POST + b"Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"


MALFORMED = [
    POST + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    POST + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
    POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    POST + b"Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
    POST + b"Transfer-Encoding: identity\r\nContent-Length: 0\r\n\r\n",
    POST.replace(b"1.1", b"1.0") + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    POST + b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
    POST + b"Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
    POST + b"Content-Length: 0\r\nContent-Length: 1\r\n\r\na",
    POST + b"Content-Length: 1, 1\r\n\r\na",
    POST + b"Content-Length: +1\r\n\r\na",
    POST + b"Content-Length: -1\r\n\r\na",
    POST + b"Content-Length: 0x1\r\n\r\na",
    POST + b"Content-Length : 1\r\n\r\na",
    GET + b"X: a\r\n b\r\n\r\n",
    GET + b"X: a\n\r\n\r\n",
    GET + b"X: a\x00b\r\n\r\n",
    GET + b"X: a\rb\r\n\r\n",
    GET.replace(b"\r\n", b"\n") + b"\n",
    GET + b": a\r\n\r\n",
    GET + b"no colon\r\n\r\n",
    GET + b"Host: elsewhere\r\n\r\n",
    b"GET /healthz HTTP/2.0\r\n" + HOST + b"\r\n",
    b"GET /healthz\r\n\r\n",
    b"get /healthz HTTP/1.1\r\n" + HOST + b"\r\n",
    b"GET /" + SECRET + b" x HTTP/1.1\r\n" + HOST + b"\r\n",
    POST + b"Content-Length: " + b"9" * 5_000 + b"\r\n\r\n",
    GET + b"".join(b"X-%d: y\r\n" % number for number in range(200)) + b"\r\n",
    CHUNKED + SECRET + b"\r\n\r\n",
    CHUNKED + b"5\n\r\nhello\r\n0\r\n\r\n",
    CHUNKED + b"5\nhello\r\n0\r\n\r\n",
    CHUNKED + b"0x5\r\nhello\r\n0\r\n\r\n",
    CHUNKED + b" 5\r\nhello\r\n0\r\n\r\n",
    CHUNKED + b"5\r\nhello!\r\n0\r\n\r\n",
    CHUNKED + b"5\r\nhello" + b"0\r\n\r\n",
    CHUNKED + b"\r\n5\r\nhello\r\n0\r\n\r\n",
    CHUNKED + b"fffffffff\r\nhello",
]


def test_malformed_http_is_refused_and_the_connection_closed(server: WebServer) -> None:
    for raw in MALFORMED:
        # What follows would be smuggled: it must not be answered.
        answer = exchange(server, raw + GET.replace(b"/healthz", b"/readyz") + b"\r\n")
        assert answer.split(b" ", 2)[1] in {b"400", b"401", b"431", b"501"}, raw[:200]
        assert b" 200 OK" not in answer, raw[:200]


def test_a_target_that_a_proxy_could_read_differently_is_refused(server: WebServer) -> None:
    for target in (
        b"//admin/login/",
        b"/%2fadmin/login/",
        b"admin/login/",
        b"http://127.0.0.1/admin/login/",
        b"http:/admin/login/",
        b"x:/admin/login/",
        b"http://[/",
        b"*",
        b"/%61dmin/login/",
        b"/admin%2Flogin/",
        b"/admin/login/#x",
    ):
        answer = exchange(server, b"GET " + target + b" HTTP/1.1\r\n" + HOST + b"Connection: close\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 400 "), target


def test_a_head_that_is_too_large_is_refused(server: WebServer) -> None:
    assert exchange(server, GET + b"X: " + b"y" * 40_000 + b"\r\n\r\n").split(b" ", 2)[1] == b"431"


def test_requests_that_come_at_once_are_answered_in_order(server: WebServer) -> None:
    answers = exchange(
        server, (GET + b"\r\n") * 5 + b"GET /nowhere HTTP/1.1\r\n" + HOST + b"Connection: close\r\n\r\n"
    )
    assert [part[:3] for part in answers.split(b"HTTP/1.1 ")[1:]] == [b"200"] * 5 + [b"404"]


def test_head_is_answered_as_get_without_the_body(server: WebServer) -> None:
    head = exchange(server, GET.replace(b"GET", b"HEAD") + b"\r\n" + GET + b"Connection: close\r\n\r\n")
    first, second = head.split(b"HTTP/1.1 ")[1:]
    assert first.endswith(b"\r\n\r\n")
    assert b"ok\n" in second


def test_no_header_changes_the_path_of_a_call(server: WebServer) -> None:
    for header in (
        b"SCRIPT_NAME: /admin",
        b"Script-Name: /admin",
        b"PATH_INFO: /admin/login/",
        b"Path-Info: /admin/login/",
        b"X-Forwarded-Prefix: /admin",
        b"X_Forwarded_Proto: https",
        b"X-Original-URL: /admin/login/",
        b"X-Forwarded-Host: elsewhere",
        b"REMOTE_ADDR: 10.0.0.1",
    ):
        raw = b"GET /login/ HTTP/1.1\r\n" + HOST + header + b"\r\nConnection: close\r\n\r\n"
        assert exchange(server, raw).split(b" ", 2)[1] == b"404", header


def test_no_log_line_contains_anything_of_a_request(server: WebServer, log: Path) -> None:
    for raw in (
        b"GET /" + SECRET + b"?q=" + SECRET + b" HTTP/1.1\r\n" + HOST + b"X-Request-ID: " + SECRET + b"\r\n\r\n",
        SECRET + b" / HTTP/1.1\r\n\r\n",
        SECRET + b"\r\n\r\n",
        GET + SECRET + b"\r\n\r\n",
        GET + b"X: " + SECRET + b"\nY: z\r\n\r\n",
        CHUNKED + SECRET + b"\r\n",
        POST + b"Content-Length: 9\r\n\r\n" + SECRET[:4],
        GET + b"Host: " + SECRET + b"\r\n\r\n",
        b"GET /admin/login/ HTTP/1.1\r\nHost: " + SECRET + b"\r\n\r\n",
        b"POST /admin/auth/user/" + SECRET + b"/change/ HTTP/1.1\r\n" + HOST + b"Content-Length: 0\r\n\r\n",
        b"POST /admin/login/ HTTP/1.1\r\n" + HOST + b"Origin: http://" + SECRET + b"\r\nContent-Length: 0\r\n\r\n",
        b"POST /admin/login/ HTTP/1.1\r\n"
        + HOST
        + b"X-Forwarded-Proto: https\r\nReferer: https://"
        + SECRET
        + b"\r\nContent-Length: 0\r\n\r\n",
        b"GET /admin/login/ HTTP/1.1\r\n" + HOST + b"Cookie: sessionid=" + SECRET + b"\r\n\r\n",
    ):
        exchange(server, raw)
    assert log.read_bytes()
    assert [line for line in log.read_bytes().splitlines() if SECRET in line] == []
