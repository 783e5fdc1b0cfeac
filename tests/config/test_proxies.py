"""Forwarded addresses are used only from a trusted proxy."""

from io import BytesIO
from ipaddress import ip_network

import pytest
from django.http import HttpRequest, HttpResponse
from django.test import RequestFactory
from django.urls import path
from pytest_django import Settings

from accounts.lockouts import client_address
from config.handler import Handler

pytestmark = pytest.mark.usefixtures("one_connection")

SAID = {
    "X-Forwarded-For": "203.0.113.9",
    "X-Forwarded-Proto": "https",
    "X-Forwarded-Host": "elsewhere",
    "X-Forwarded-Port": "1",
    "X-Forwarded-Prefix": "/admin",
    "Forwarded": "for=203.0.113.9",
    "X-Real-IP": "203.0.113.9",
}


def echo(request: HttpRequest) -> HttpResponse:
    kept = sorted(name for name in request.headers if name in SAID)
    return HttpResponse(f"{request.scheme} {client_address(request)} {request.get_host()} {','.join(kept)}")


urlpatterns = [path("echo", echo)]


@pytest.fixture(autouse=True)
def _behind_a_proxy(settings: Settings) -> None:
    settings.ROOT_URLCONF = __name__
    settings.BEHIND_PROXY = True
    settings.SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
    settings.PROXY_NETWORKS = (ip_network("10.1.0.0/16"), ip_network("fd00::/8"))


def echoed(caller: str) -> str:
    environ = RequestFactory().get("/echo", headers={**SAID, "Host": "testserver"}, REMOTE_ADDR=caller).environ
    return b"".join(Handler()(environ, lambda *_: None)).decode()


@pytest.mark.parametrize("proxy", ["10.1.2.3", "fd00::1", "::ffff:10.1.2.3", ""])
def test_the_address_and_scheme_from_a_trusted_proxy_are_used(proxy: str) -> None:
    assert echoed(proxy) == "https 203.0.113.9 testserver X-Forwarded-For,X-Forwarded-Proto"


def test_a_proxy_can_send_all_of_a_body_that_nobody_reads() -> None:
    body = BytesIO(b"x" * 1_000_000)
    for caller, is_received in (("10.2.0.1", False), ("10.1.2.3", True)):
        environ = RequestFactory().get("/echo", REMOTE_ADDR=caller).environ | {"wsgi.input": body}
        Handler()(environ, lambda *_: None)
        assert (body.tell() == 1_000_000) == is_received


@pytest.mark.parametrize("caller", ["10.2.0.1", "203.0.113.1", "::ffff:10.2.0.1", "fe80::1"])
def test_headers_of_untrusted_clients_are_ignored(caller: str) -> None:
    answer = echoed(caller)
    assert answer.startswith("http ")
    assert "203.0.113.9" not in answer
    assert answer.endswith("testserver ")


def test_without_a_proxy_forwarded_headers_are_ignored(settings: Settings) -> None:
    settings.BEHIND_PROXY, settings.SECURE_PROXY_SSL_HEADER = False, None
    assert echoed("10.1.2.3") == "http 10.1.2.3 testserver "
