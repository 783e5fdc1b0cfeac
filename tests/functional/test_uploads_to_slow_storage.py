"""Uploads into a dripping storage delay no other call."""

import http.client
import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from itertools import islice

import pytest

from chatbots.models import Chatbot
from common.storage import ObjectStorage
from tests import factories
from tests.calls import TokenCaller
from tests.conversations.forms import BOUNDARY, FORM, file
from tests.factories import conversation_of
from tests.functional.web import PATIENCE, WebServer, web_server
from tests.hostile import Hostile, behaving, drips_a_head

BODY = f"--{BOUNDARY}\r\n".encode() + file(b"x") + f"\r\n--{BOUNDARY}--\r\n".encode()
# A second is promised; the machine may have other things to do. A call that waits for a thread gets no answer.
SOON = 10.0


@pytest.fixture
def slow() -> Iterator[Hostile]:
    with behaving(drips_a_head) as server:
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


@pytest.mark.parametrize(
    "threads",
    [2, pytest.param(4, marks=pytest.mark.long(reason="the same with another web server, of more threads"))],
)
def test_one_thread_is_kept_free_while_the_storage_drips(chatbot: Chatbot, slow: Hostile, threads: int) -> None:
    caller, number = TokenCaller(chatbot), conversation_of(chatbot, "42").pk
    neighbour = factories.ready_chatbot(slug="other")
    uploads = [(caller, number), (TokenCaller(neighbour), conversation_of(neighbour, "42").pk)] * (threads + 4)
    paths = ["/healthz", "/readyz", caller.url("conversations"), caller.url(f"conversations/{number}")]
    refused, refused_one = (503, "5", "unavailable"), (429, "1", "rate_limited")
    with (
        web_server(WEB_THREADS=str(threads), S3_ENDPOINT_URL=slow.url()) as server,
        ThreadPoolExecutor(threads + 4) as pool,
    ):
        calls = [pool.submit(upload, server, *one) for one in uploads[: threads + 4]]
        at_once = [call.result() for call in islice(as_completed(calls, timeout=PATIENCE / 2), 5)]
        seconds = [took(server, path, caller.credentials(b"")) for path in paths for _ in range(5)]
        assert {refused} <= {*at_once} <= {refused, refused_one}
        assert [call.done() for call in calls].count(False) == threads - 1, "Nothing was held meanwhile."
        assert max(seconds) < SOON
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
