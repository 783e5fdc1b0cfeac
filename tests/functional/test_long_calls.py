"""Long calls of one chatbot leave threads of the web server to others."""

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from itertools import islice
from typing import Any

import pytest
from django.db import connection, transaction

from chatbots.models import Chatbot
from tests import factories
from tests.calls import ALICE, TokenCaller
from tests.functional.web import PATIENCE, WebServer, web_server

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


@pytest.mark.parametrize("path", LONG)
def test_others_are_served_while_one_chatbot_makes_long_calls(server: WebServer, chatbot: Chatbot, path: str) -> None:
    busy, other = TokenCaller(chatbot), TokenCaller(factories.ready_chatbot(slug="other"))
    with ThreadPoolExecutor(THREADS + MOST) as pool:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("LOCK TABLE chatbots_variable, conversations_conversation IN ACCESS EXCLUSIVE MODE")
            calls = [pool.submit(call, server, busy, path, LONG[path]) for _ in range(THREADS + MOST)]
            refused = [one.result() for one in islice(as_completed(calls, timeout=PATIENCE), THREADS)]
            began = time.monotonic()
            # Of the busy chatbot too, if they are short.
            served = [call(server, caller, "requests")[0] for caller in (other, busy) for _ in range(3)]
            took = time.monotonic() - began
        ended = [one.result()[0] for one in calls]
    assert {(status, wait, body["code"]) for status, wait, body in refused} == {(429, "1", "rate_limited")}
    assert {body["detail"].rpartition(". ")[2] for _, _, body in refused} == {
        "Wait for Retry-After, and send fewer in parallel."
    }
    assert served == [200] * 6
    assert took < SOON
    assert (ended.count(200), ended.count(429)) == (MOST, THREADS)
    assert call(server, busy, path, LONG[path])[0] == 200


def test_short_calls_in_parallel_wait_for_each_other(server: WebServer, chatbot: Chatbot) -> None:
    caller, document = TokenCaller(chatbot), LONG["conversations"]
    with ThreadPoolExecutor(THREADS) as pool:
        documents = [document | {"id": str(number)} for number in range(40)]
        answers = list(pool.map(lambda one: call(server, caller, "conversations", one), documents))
    assert {status for status, _, _ in answers} == {200}
