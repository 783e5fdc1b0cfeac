"""The proxies of deploy/proxy/ keep slow and unknown callers away from the web server, and let all others through."""

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing
from pathlib import Path
from statistics import median
from types import MappingProxyType
from typing import Any

import pytest
from django.conf import settings

from chatbots.models import Chatbot
from scripts.processes import free_port
from tests.calls import ALICE, SigningCaller, TokenCaller
from tests.conversations.forms import FORM, file, form
from tests.factories import conversation_of
from tests.functional.proxies import CADDY, NGINX, Proxy, proxy_to
from tests.functional.slow_callers import half_a_head, no_reader, signed_body, slow_callers
from tests.functional.web import WebServer, web_server
from tests.people import Role, member

MIB = 1024 * 1024
_JSON = {"Content-Type": "application/json"}


@pytest.fixture(scope="module")
def server(django_db_setup: None, django_db_blocker: Any) -> Iterator[WebServer]:
    # Redirects each call that has not come by HTTPS, as the proxy says.
    with django_db_blocker.unblock(), web_server(BEHIND_PROXY="true", SECURE_SSL_REDIRECT="true") as server:
        yield server


@pytest.fixture(scope="module", params=[NGINX, CADDY])
def proxy(request: Any, server: WebServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    with proxy_to(server.port, request.param, tmp_path_factory.mktemp(request.param)) as proxy:
        yield proxy


def call(proxy: Proxy, method: str, path: str, body: bytes = b"", **headers: str) -> tuple[int, bytes]:
    with closing(proxy.connect()) as connection:
        connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
        response = connection.getresponse()
        return response.status, response.read()


def refusal(proxy: Proxy, path: str, length: int = 0, headers: Mapping[str, str] = MappingProxyType({})) -> int:
    """Return the status of the problem that answers a call of which only the beginning of the body is sent."""
    with closing(proxy.connect()) as connection:
        connection.putrequest("POST" if length else "GET", path)
        for name, value in {**_JSON, "Content-Length": str(length), **headers}.items():
            connection.putheader(name, value)
        # Caddy throws as much away before it answers.
        connection.endheaders(b" " * min(length, 300_000))
        response = connection.getresponse()
        assert response.getheader("Content-Type", "").startswith("application/problem+json")
        assert response.getheader("Retry-After") == ("5" if response.status == 503 else None)
        assert response.getheader("Cache-Control") == "no-store"
        body = json.loads(response.read())
    assert body.keys() == {"type", "title", "status", "detail", "code", "trace_id", "request_id", "errors"}
    assert body["status"] == response.status
    return response.status


@pytest.mark.long(reason="192 slow callers, and how soon others are served is measured")
def test_slow_callers_delay_no_other_call(proxy: Proxy) -> None:
    call(proxy, "GET", "/api/schema/")  # which is made once
    with slow_callers(proxy.open, [half_a_head, signed_body, no_reader], each=64):
        taken, end = list[float](), time.monotonic() + 5
        while time.monotonic() < end:
            for path in ("/healthz", "/admin/login/"):
                began = time.monotonic()
                assert call(proxy, "GET", path)[0] == 200
                taken.append(time.monotonic() - began)
    # Calls past the proxy are held for longer than 30 seconds; a few that wait for a busy machine say nothing.
    assert median(taken) < 1
    assert max(taken) < 10


@pytest.mark.usefixtures("storage")
def test_each_call_that_takes_a_large_body_gets_it(proxy: Proxy, chatbot: Chatbot) -> None:
    caller, signer = TokenCaller(chatbot), SigningCaller(chatbot)
    conversation = conversation_of(chatbot, "42")
    rest = b" " * 200_000
    batch = json.dumps({"requests": [{"action": "data-deletion", **ALICE}]}).encode() + rest
    for path, body, by, status in (
        ("conversations", b"[]" + rest, caller, 200),
        ("conversations/identify", b"{}" + rest, caller, 400),
        ("conversations/lookup", b'{"ids": ["c"]}' + rest, caller, 200),
        ("requests/batch", batch, caller, 200),
        ("requests/batch", batch, signer, 200),
    ):
        answer = call(proxy, "POST", by.url(path), body, **by.credentials(body), **_JSON)
        assert answer[0] == status, (path, answer)
    upload = form(file(b"x" * MIB))
    headers = {**caller.credentials(b""), "Content-Type": FORM}
    assert call(proxy, "POST", caller.url(f"conversations/{conversation.pk}/files"), upload, **headers)[0] == 201
    # It gets as far as Django's check of forms.
    key = member(chatbot, Role.SUPPORT).cookies[settings.SESSION_COOKIE_NAME].value
    cookies = {
        "Cookie": f"sessionid={key}; __Host-sessionid={key}",
        "Content-Type": "application/x-www-form-urlencoded",
    }
    assert b"reload the page" in call(proxy, "POST", "/admin/lookup/", b"a=" + b"x" * MIB, **cookies)[1]


def test_a_large_body_of_an_unknown_caller_is_refused_unread(proxy: Proxy, chatbot: Chatbot) -> None:
    caller = TokenCaller(chatbot)
    wrong = {"Authorization": f"Bearer {str(caller.token)[:-6]}000000"}
    for headers in ({}, wrong):
        assert refusal(proxy, caller.url("conversations"), MIB, headers) == 401
        assert refusal(proxy, caller.url("conversations/1/files"), 20 * MIB, headers) == 401
    # Of a logged-out user: no problem, but a text to read.
    assert call(proxy, "POST", "/admin/login/", b"a=" + b"x" * MIB)[0] == 403


def test_a_body_that_is_too_large_for_its_call_is_refused(proxy: Proxy, chatbot: Chatbot) -> None:
    caller, signer = TokenCaller(chatbot), SigningCaller(chatbot)
    for path, size, by in (
        ("data-deletion", 200_000, caller),
        ("requests/batch", MIB + 200_000, signer),
        ("conversations", 27 * MIB, caller),
        ("conversations", 11 * MIB, caller),  # the service refuses it
    ):
        status, body = call(proxy, "POST", by.url(path), b" " * size, **by.credentials(b""), **_JSON)
        assert (status, json.loads(body)["code"]) == (413, "too_large"), path


def test_bodies_that_only_look_signed_take_bounded_space(proxy: Proxy, chatbot: Chatbot) -> None:
    """Of all addresses 128 of 1 MiB are received at a time; the next is refused, and known callers are served."""
    with slow_callers(proxy.open, [signed_body, signed_body], each=64):
        time.sleep(1)  # until the proxy has read the last of them
        assert refusal(proxy, f"/api/v1/chatbots/{chatbot.slug}/requests/batch", 900_000, signed()) == 503
        caller, body = TokenCaller(chatbot), b'{"ids": ["c"]}' + b" " * 200_000
        answer = call(proxy, "POST", caller.url("conversations/lookup"), body, **caller.credentials(body), **_JSON)
        assert answer[0] == 200


def signed() -> dict[str, str]:
    return {"X-Mindsay-Timestamp": str(int(time.time())), "X-Mindsay-Signature": "0" * 64}


def test_nginx_takes_a_limited_number_of_calls_of_one_address(server: WebServer, tmp_path: Path) -> None:
    with proxy_to(server.port, NGINX, tmp_path) as proxy, ExitStack() as callers:
        for _ in range(100):
            signed_body(callers.enter_context(proxy.open()))
        assert call(proxy, "GET", "/healthz")[0] == 503
        other = callers.enter_context(proxy.open("127.0.0.2"))
        other.sendall(b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        assert other.recv(12) == b"HTTP/1.1 200"


def test_what_the_network_alone_may_see_is_not_found(proxy: Proxy) -> None:
    for path in ("/metrics", "/%6detrics", "/api/may-send"):
        assert refusal(proxy, path) == 404


def test_a_connection_of_caddy_carries_one_call_at_a_time(proxy: Proxy) -> None:
    """nginx counts calls, a firewall in front of Caddy connections."""
    assert proxy.protocol() == ("h2" if proxy.name == NGINX else "http/1.1")


def test_how_long_a_browser_may_keep_it_is_for_the_service_to_say(server: WebServer, proxy: Proxy) -> None:
    for path in ("/api/docs/", "/healthz"):
        said = []
        for connection in (server.connect(), proxy.connect()):
            with closing(connection):
                connection.request("GET", path, headers={"X-Forwarded-Proto": "https"})
                response = connection.getresponse()
                said.append((response.status, response.getheader("Cache-Control")))
        assert said[0][0] == 200
        assert said[0] == said[1]


@pytest.mark.parametrize("name", [NGINX, CADDY])
def test_a_stopped_service_is_unavailable(name: str, tmp_path: Path) -> None:
    with proxy_to(free_port(), name, tmp_path) as proxy:
        assert refusal(proxy, "/api/") == 503
