"""The request id: in every response and every log line of a call; never the caller's own."""

import io
import logging
import re
import sys
from collections.abc import Iterator
from contextlib import closing
from typing import NamedTuple

import pytest
from django.db import OperationalError
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.test import RequestFactory
from django.urls import path

from common.logs import SafeFormatter, current_request_id
from common.problems import CODES
from config.handler import Handler
from tests.calls import ALICE, TokenCaller, problem
from tests.patches import failing

pytestmark = pytest.mark.usefixtures("one_connection")

THEIRS, SECRET = "ticket-4711", "alice-77@example.com"
logger = logging.getLogger("someone.else")


def plain(request: HttpRequest) -> HttpResponse:
    logger.debug("A library tells of the view.")
    return HttpResponse("done")


def streamed(request: HttpRequest) -> StreamingHttpResponse:
    def parts() -> Iterator[bytes]:
        for part in range(2):
            logger.warning("Part %d is made.", part)
            yield b"part"

    return StreamingHttpResponse(parts())


def broken(request: HttpRequest) -> HttpResponse:
    raise ValueError


def unavailable(request: HttpRequest) -> HttpResponse:
    return HttpResponse(status=503)


urlpatterns = [path(view.__name__, view) for view in (plain, streamed, broken, unavailable)]


class Served(NamedTuple):
    status: int
    headers: dict[str, str]
    lines: list[str]


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    """Everything logged from DEBUG on, as written to the log."""
    root, lines = logging.getLogger(), io.StringIO()
    handler, level = logging.StreamHandler(lines), root.level
    handler.setFormatter(SafeFormatter())
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    yield lines
    root.removeHandler(handler)
    root.setLevel(level)


def serve(log: io.StringIO, url: str, method: str = "GET", **headers: str) -> Served:
    """Serve a call as a web server does, until the response is closed."""
    environ = RequestFactory().generic(method, url, headers=headers).environ
    heads: list[tuple[str, list[tuple[str, str]]]] = []
    log.truncate(log.seek(0))
    with closing(Handler()(environ, lambda *head: heads.append(head))) as answer:
        list(answer)
    [(status, sent)] = heads
    lines = [line for line in log.getvalue().splitlines() if re.match(r"\d{4}-", line)]
    return Served(int(status.split()[0]), dict(sent), lines)


@pytest.mark.parametrize(
    ("view", "status", "found"),
    [("plain", 200, 1), ("streamed", 200, 2), ("broken", 500, 1), ("unavailable", 503, 1), ("nowhere", 404, 0)],
)
def test_every_log_line_of_a_call_contains_its_id(settings, log, view, status, found):
    settings.ROOT_URLCONF = sys.modules[__name__]
    served = serve(log, f"/{view}", **{"X-Request-ID": THEIRS})

    assert (served.status, served.headers["X-Request-ID"]) == (status, THEIRS)
    assert len(served.lines) == found
    assert all(line.endswith(f" request_id={served.headers['X-Trace-ID']}") for line in served.lines)
    assert THEIRS not in log.getvalue()


def test_lines_logged_between_calls_contain_no_id(settings, log):
    settings.ROOT_URLCONF = sys.modules[__name__]
    serve(log, "/streamed")
    assert current_request_id.get() == ""


@pytest.mark.parametrize("sent", [None, "short", "x" * 65, "with space", "semi;colon", "é" * 8])
def test_a_caller_without_a_usable_id_gets_a_new_one(settings, log, sent):
    settings.ROOT_URLCONF = sys.modules[__name__]
    served = serve(log, "/plain", **({"X-Request-ID": sent} if sent else {}))
    made = served.headers["X-Request-ID"]
    assert served.headers["X-Trace-ID"] == made
    assert re.fullmatch(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f-]{21}", made)
    assert [line.rpartition("request_id=")[2] for line in served.lines] == [made]


@pytest.mark.parametrize(
    ("call", "host", "status"),
    [
        ("GET /api/schema/", "here", 301),
        ("GET /api/v1/nowhere", "here", 404),
        ("GET /nowhere", "here", 404),
        ("GET /api/schema/", "here", 200),
        ("GET /admin/", "here", 302),
        ("GET /admin/login/", "elsewhere", 400),
        ("GET /api/schema/", "elsewhere", 400),
        ("PUT /api/v1/chatbots/acme/data-deletion", "here", 405),
        ("POST /api/v1/chatbots/acme/data-deletion", "here", 401),
        ("POST /admin/login/", "here", 403),
    ],
)
def test_every_response_contains_the_id(settings, log, call, host, status):
    settings.ALLOWED_HOSTS = ["here"]
    settings.SECURE_SSL_REDIRECT = status == 301
    method, url = call.split()
    served = serve(log, url, method, **{"Host": host, "X-Request-ID": THEIRS})
    assert (served.status, served.headers["X-Request-ID"]) == (status, THEIRS)


@pytest.mark.parametrize(("error", "code"), [(ValueError, "internal"), (OperationalError, "unavailable")])
def test_a_failed_api_call_has_its_id_in_response_and_log_and_is_not_quoted(chatbot, log, monkeypatch, error, code):
    caller = TokenCaller(chatbot)
    monkeypatch.setattr("compliance.api.submissions.submit", failing(error(SECRET)))
    log.truncate(log.seek(0))
    answer = caller.post("data-deletion", ALICE, X_Request_ID=THEIRS)
    made = problem(answer, CODES[code][0], code)["request_id"]
    assert ("Retry-After" in answer.headers) is (code == "unavailable")
    lines = [line for line in log.getvalue().splitlines() if re.match(r"\d{4}-.*(ERROR|WARNING)", line)]
    # Ours, and Django's after the middleware.
    assert len(lines) == 2
    assert f"request_id={made}" in log.getvalue()
    assert lines[1].endswith(f"request_id={made}")
    assert THEIRS not in log.getvalue()
    assert SECRET not in f"{answer.text}{log.getvalue()}"
