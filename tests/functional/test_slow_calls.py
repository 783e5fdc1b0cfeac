"""Long calls, uploads to a slow storage and slow statements leave threads of the web server to others."""

import http.client
import json
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from itertools import islice
from typing import Any

import pytest
from django.db import connection, transaction

from chatbots.models import Chatbot
from common.storage import ObjectStorage
from tests import factories
from tests.calls import ALICE, TokenCaller
from tests.conversations.forms import BOUNDARY, FORM, file
from tests.factories import conversation_of
from tests.functional.web import PATIENCE, WebServer, web_server
from tests.hostile import Hostile, behaving, drips_a_head
from tests.people import member

THREADS, MOST = 4, 2
# An answer at once is promised; the machine may have other things to do. A call that waits for a thread gets none.
SOON = 15.0
LONG: dict[str, Any] = {
    "preview": ALICE,
    "conversations/lookup": {"ids": ["1"]},
    "conversations": {"id": "1", "channel": "widget", "started_at": "2026-11-01T10:00:00Z"},
    "conversations/identify": {"identities": [{"id": "1", **ALICE}]},
    "requests/batch": {"requests": [{"action": "delete", **ALICE}]},
    "usage": None,
}


@pytest.fixture(scope="module")
def server(django_db_setup: None) -> Iterator[WebServer]:
    with web_server(WEB_THREADS=str(THREADS), WEB_STATEMENT_SECONDS="20") as server:
        yield server


def call(server: WebServer, caller: TokenCaller, path: str, body: Any = None) -> tuple[int, str | None, Any]:
    """Return status, Retry-After and JSON of the answer."""
    raw = b"" if body is None else json.dumps(body).encode()
    client = server.connect()
    headers = {**caller.credentials(raw), "Content-Type": "application/json"}
    client.request("GET" if body is None else "POST", caller.url(path), raw, headers)
    response = client.getresponse()
    answer = response.status, response.getheader("Retry-After"), json.loads(response.read())
    client.close()
    return answer


def test_others_are_served_while_one_chatbot_makes_long_calls(server: WebServer, chatbot: Chatbot) -> None:
    busy, other = TokenCaller(chatbot), TokenCaller(factories.ready_chatbot(slug="other"))
    for path, body in LONG.items():
        with ThreadPoolExecutor(THREADS + MOST) as pool:
            with transaction.atomic(), connection.cursor() as cursor:
                cursor.execute("LOCK TABLE chatbots_variable, conversations_conversation IN ACCESS EXCLUSIVE MODE")
                calls = [pool.submit(call, server, busy, path, body) for _ in range(THREADS + MOST)]
                refused = [one.result() for one in islice(as_completed(calls, timeout=PATIENCE), THREADS)]
                began = time.monotonic()
                # Of the busy chatbot too, if they are short.
                served = [call(server, caller, "requests")[0] for caller in (other, busy) for _ in range(3)]
                took = time.monotonic() - began
            ended = [one.result()[0] for one in calls]
        assert {(status, wait, body["code"]) for status, wait, body in refused} == {(429, "1", "rate_limited")}, path
        assert {body["detail"].rpartition(". ")[2] for _, _, body in refused} == {
            "Wait for Retry-After, and send fewer in parallel."
        }
        assert served == [200] * 6
        assert took < SOON
        assert (ended.count(200), ended.count(429)) == (MOST, THREADS), path
        assert call(server, busy, path, body)[0] == 200


def test_short_calls_in_parallel_wait_for_each_other(server: WebServer, chatbot: Chatbot) -> None:
    caller, document = TokenCaller(chatbot), LONG["conversations"]
    with ThreadPoolExecutor(THREADS) as pool:
        documents = [document | {"id": str(number)} for number in range(40)]
        answers = list(pool.map(lambda one: call(server, caller, "conversations", one), documents))
    assert {status for status, _, _ in answers} == {200}


BODY = f"--{BOUNDARY}\r\n".encode() + file(b"x") + f"\r\n--{BOUNDARY}--\r\n".encode()
# A second is promised; the machine may have other things to do. A call that waits for a thread gets no answer.
AT_ONCE = 10.0


@pytest.fixture(scope="module")
def slow() -> Iterator[Hostile]:
    with behaving(drips_a_head) as server:
        yield server


# Of which one stays free.
FEW_THREADS = 2


@pytest.fixture(scope="module")
def impatient(django_db_setup: None, slow: Hostile) -> Iterator[WebServer]:
    few = {"WEB_THREADS": str(FEW_THREADS), "S3_ENDPOINT_URL": slow.url()}
    with web_server(WEB_STATEMENT_SECONDS="1", **few) as server:
        yield server


def upload(server: WebServer, caller: TokenCaller, number: int) -> tuple[int, str | None, str]:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=4 * PATIENCE)
    headers = {**caller.credentials(b""), "Content-Type": FORM}
    connection.request("POST", caller.url(f"conversations/{number}/files"), BODY, headers)
    response = connection.getresponse()
    code = json.loads(response.read())["code"]
    connection.close()
    return response.status, response.getheader("Retry-After"), code


def took(server: WebServer, path: str, headers: dict[str, str]) -> float:
    began = time.monotonic()
    connection = server.connect()
    connection.request("GET", path, headers=headers)
    assert connection.getresponse().status == 200
    connection.close()
    return time.monotonic() - began


def test_one_thread_is_kept_free_while_the_storage_drips(chatbot, slow: Hostile, impatient: WebServer) -> None:
    caller, number = TokenCaller(chatbot), conversation_of(chatbot, "42").pk
    neighbour = factories.ready_chatbot(slug="other")
    uploads = [(caller, number), (TokenCaller(neighbour), conversation_of(neighbour, "42").pk)] * (FEW_THREADS + 4)
    paths = ["/healthz", "/readyz", caller.url("conversations"), caller.url(f"conversations/{number}")]
    refused, refused_one = (503, "5", "unavailable"), (429, "1", "rate_limited")
    with ThreadPoolExecutor(FEW_THREADS + 4) as pool:
        calls = [pool.submit(upload, impatient, *one) for one in uploads[: FEW_THREADS + 4]]
        at_once = [call.result() for call in islice(as_completed(calls, timeout=PATIENCE / 2), 5)]
        seconds = [took(impatient, path, caller.credentials(b"")) for path in paths for _ in range(5)]
        assert {refused} <= {*at_once} <= {refused, refused_one}
        assert [call.done() for call in calls].count(False) == FEW_THREADS - 1, "Nothing was held meanwhile."
        assert max(seconds) < AT_ONCE
        slow.over.set()
        assert {call.result() for call in calls} <= {refused, refused_one}


def test_ended_uploads_free_their_slots(chatbot: Chatbot, storage: ObjectStorage) -> None:
    caller, number = TokenCaller(chatbot), conversation_of(chatbot, "42").pk
    wrong = BODY.replace(b'name="file"', b'name="other"')
    for body, status in [(wrong, 400), (BODY, 201)] * 4:
        answer = caller.client.generic(
            "POST", caller.url(f"conversations/{number}/files"), body, FORM, headers=caller.credentials(b"")
        )
        assert answer.status_code == status


def get(
    client: http.client.HTTPConnection, path: str, headers: Mapping[str, str]
) -> tuple[http.client.HTTPResponse, str]:
    client.request("GET", path, headers=headers)
    response = client.getresponse()
    return response, response.read().decode()


def refused_and_served(
    impatient: WebServer, path: str, headers: Mapping[str, str]
) -> tuple[http.client.HTTPResponse, str]:
    """Return the answer while the requests are locked, after a second one on the same connection was served."""
    client = impatient.connect()
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute("LOCK TABLE compliance_compliancerequest IN ACCESS EXCLUSIVE MODE")
        refused = get(client, path, headers)
    again, _ = get(client, path, headers)
    client.close()
    assert again.status == 200
    return refused


def test_a_call_that_waits_too_long_for_the_database_returns_retry_after(impatient, chatbot) -> None:
    caller = TokenCaller(chatbot)
    response, body = refused_and_served(impatient, caller.url("requests"), caller.credentials(b""))
    assert (response.status, response.headers["Retry-After"]) == (503, "5"), body
    assert '"code":"unavailable"' in body


def test_a_page_that_waits_too_long_for_the_database_explains_it(impatient: WebServer, chatbot: Chatbot) -> None:
    [cookie] = member(chatbot).cookies.values()
    headers = {"Cookie": f"__Host-sessionid={cookie.value}"}
    response, body = refused_and_served(impatient, "/admin/requests/", headers)
    assert (response.status, response.headers["Retry-After"]) == (503, "5"), body
    assert "The database did not respond in time" in body
    assert "no-store" in response.headers["Cache-Control"]
