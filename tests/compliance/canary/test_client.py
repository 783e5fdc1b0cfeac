"""Calls of the canary: a service that cannot answer is no finding, and the token goes nowhere else."""

from contextlib import AbstractContextManager
from http.server import BaseHTTPRequestHandler
from typing import ClassVar

import pytest

from compliance.canary.client import Client
from compliance.canary.trouble import Budget, CannotTell
from tests.compliance.canary.support import serving


class Service(BaseHTTPRequestHandler):
    """Answers with the status in the path, and remembers each call."""

    calls: ClassVar[list[tuple[str, str | None]]] = []

    def do_GET(self) -> None:
        self.calls.append((self.path, self.headers.get("Authorization")))
        status = int(self.path.rpartition("/")[2])
        if status == 999:
            self.wfile.write(b"SSH-2.0-OpenSSH_9.6\r\n")
            return
        self.send_response(status)
        if status == 302:
            self.send_header("Location", f"http://{self.headers['Host']}/elsewhere/200")
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def service() -> AbstractContextManager[str]:
    Service.calls.clear()
    return serving(Service)


def client(address: str, *, seconds: float = 10) -> Client:
    return Client(address, "canary", secret="s", token="t", budget=Budget(seconds))


@pytest.mark.parametrize("status", [429, 500, 502, 503])
def test_a_service_that_cannot_answer_is_unavailable(status: int) -> None:
    with service() as address, pytest.raises(CannotTell) as raised:
        client(address).get("getUsage", str(status))

    assert (raised.value.code, raised.value.where) == ("api_unavailable", "getUsage")


def test_what_speaks_no_http_is_unavailable() -> None:
    with service() as address, pytest.raises(CannotTell, match="api_unavailable"):
        client(address).get("getUsage", "999")


def test_a_refusal_is_an_answer_and_no_document() -> None:
    with service() as address:
        assert client(address).get("getUsage", "404").status == 404
        with pytest.raises(CannotTell, match="api_refused"):
            client(address).read("getUsage", "404")


def test_no_redirect_is_followed() -> None:
    with service() as address:
        assert client(address).get("downloadFile", "302").status == 302

    assert Service.calls == [("/api/v1/chatbots/canary/302", "Bearer t")]


def test_no_proxy_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    with service() as address:
        assert client(address).get("getUsage", "200").status == 200


@pytest.mark.parametrize(
    "address",
    [
        "http://127.0.0.1:9",
        "http://192.0.2.1:80",  # it would leave this machine unencrypted
        "https://127.0.0.1:9",
        "https://nothing.invalid",
    ],
)
def test_what_cannot_be_reached_is_unavailable(address: str) -> None:
    with pytest.raises(CannotTell, match="api_unavailable"):
        client(address).get("getUsage", "200")


def test_a_call_to_a_server_without_tls_is_unavailable() -> None:
    with service() as address, pytest.raises(CannotTell, match="api_unavailable"):
        client(address.replace("http:", "https:")).get("getUsage", "200")


def test_no_call_begins_once_the_time_is_over() -> None:
    with service() as address, pytest.raises(CannotTell, match="too_long"):
        client(address, seconds=-1).get("getUsage", "200")

    assert Service.calls == []
