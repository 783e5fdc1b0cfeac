"""A call whose statement takes too long is ended, and its thread is free for others."""

import http.client
from collections.abc import Iterator, Mapping

import pytest
from django.db import connection, transaction

from chatbots.models import Chatbot
from tests.calls import TokenCaller
from tests.functional.web import WebServer, web_server
from tests.people import member


@pytest.fixture(scope="module")
def server(django_db_setup: None) -> Iterator[WebServer]:
    with web_server(WEB_STATEMENT_SECONDS="1") as server:
        yield server


def get(
    client: http.client.HTTPConnection, path: str, headers: Mapping[str, str]
) -> tuple[http.client.HTTPResponse, str]:
    client.request("GET", path, headers=headers)
    response = client.getresponse()
    return response, response.read().decode()


def refused_and_served(
    server: WebServer, path: str, headers: Mapping[str, str]
) -> tuple[http.client.HTTPResponse, str]:
    """Return the answer while the requests are locked, after a second one on the same connection was served."""
    client = server.connect()
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute("LOCK TABLE compliance_compliancerequest IN ACCESS EXCLUSIVE MODE")
        refused = get(client, path, headers)
    again, _ = get(client, path, headers)
    client.close()
    assert again.status == 200
    return refused


def test_a_call_that_waits_too_long_for_the_database_returns_retry_after(server: WebServer, chatbot: Chatbot) -> None:
    caller = TokenCaller(chatbot)
    response, body = refused_and_served(server, caller.url("requests"), caller.credentials(b""))
    assert (response.status, response.headers["Retry-After"]) == (503, "5"), body
    assert '"code":"unavailable"' in body


def test_a_page_that_waits_too_long_for_the_database_explains_it(server: WebServer, chatbot: Chatbot) -> None:
    [cookie] = member(chatbot).cookies.values()
    headers = {"Cookie": f"__Host-sessionid={cookie.value}"}
    response, body = refused_and_served(server, "/admin/requests/", headers)
    assert (response.status, response.headers["Retry-After"]) == (503, "5"), body
    assert "The database did not respond in time" in body
    assert "no-store" in response.headers["Cache-Control"]
