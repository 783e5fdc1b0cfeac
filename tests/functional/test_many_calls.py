"""Many concurrent calls to two web processes of four threads each, which share only the database."""

import json
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any, NamedTuple

import pytest
from django.db.models import F

from chatbots.models import ApiKey, ChangeLogEntry, Chatbot, RateLimitWindow
from compliance.models import ComplianceRequest, Replay
from tests import factories
from tests.calls import ALICE, Caller, SigningCaller, TokenCaller
from tests.functional.web import PATIENCE, WebServer, web_server

CONNECTIONS = 16


class Answer(NamedTuple):
    status: int
    headers: Mapping[str, str]
    body: Any


@pytest.fixture(scope="module")
def server(django_db_setup: None) -> Iterator[WebServer]:
    with web_server(workers=2) as server:
        yield server


@pytest.fixture
def chatbot() -> Chatbot:
    return factories.ready_chatbot(slug="acme")


def post_all(
    server: WebServer, *callers: Caller, calls: int, connections: int = CONNECTIONS, **headers: str
) -> list[Answer]:
    """Send one deletion a number of times on each connection, all connections at once, by several callers."""
    raw = json.dumps(ALICE).encode()
    sent = {caller: {**caller.credentials(raw), **headers, "Content-Type": "application/json"} for caller in callers}

    def work(number: int) -> list[Answer]:
        caller = callers[number % len(callers)]
        connection = server.connect()
        answers = []
        for _ in range(calls):
            connection.request("POST", caller.url("data-deletion"), raw, sent[caller])
            response = connection.getresponse()
            answers.append(Answer(response.status, response.headers, json.loads(response.read())))
        connection.close()
        return answers

    with ThreadPoolExecutor(connections) as threads:
        return [answer for answers in threads.map(work, range(connections)) for answer in answers]


@pytest.mark.long(reason="a thousand calls")
def test_a_thousand_calls_with_one_idempotency_key_file_one_request(server, chatbot) -> None:
    # The signed half bears one timestamp throughout: it is the same call by its signature too.
    callers = (TokenCaller(chatbot), SigningCaller(chatbot))
    answers = post_all(server, *callers, calls=63, **{"Idempotency-Key": "order 66"})

    assert Counter(answer.status for answer in answers) == {200: 63 * CONNECTIONS}
    assert {answer.body["request_id"] for answer in answers} == {str(ComplianceRequest.objects.get().pk)}
    assert ChangeLogEntry.objects.filter(event="request.accepted").count() == 1
    assert Replay.objects.count() == 2


@pytest.mark.long(reason="two web servers are started")
def test_web_processes_share_the_limit_of_a_key(server, chatbot) -> None:
    caller, neighbour = TokenCaller(chatbot), TokenCaller(chatbot)
    ApiKey.objects.filter(pk=caller.api_key.pk).update(rate_limit=40)

    answers = post_all(server, caller, calls=5)

    assert Counter(answer.status for answer in answers) == {200: 40, 429: 5 * CONNECTIONS - 40}
    assert ComplianceRequest.objects.count() == 40
    remaining = {int(one.headers["RateLimit-Remaining"]) for one in answers}
    assert 0 in remaining <= {*range(40)}
    assert {one.body["code"] for one in answers if one.status == 429} == {"rate_limited"}
    assert {one.status for one in post_all(server, neighbour, calls=1)} == {200}

    # The minute is over. A process that has refused checks again within a second.
    RateLimitWindow.objects.update(began_at=F("began_at") - timedelta(minutes=1))
    end = time.monotonic() + PATIENCE
    while post_all(server, caller, calls=1, connections=1)[0].status != 200:
        assert time.monotonic() < end, "The limit is never over."
