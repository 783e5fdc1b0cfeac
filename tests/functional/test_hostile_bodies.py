"""Any body costs bounded memory and time, and is read only from permitted callers."""

import http.client
import json
import os
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from chatbots.models import Chatbot
from config.web.limits import SMALL_BODY_BYTES
from conversations.models import Conversation, Message
from tests.calls import Caller, SigningCaller, TokenCaller
from tests.functional.web import WebServer, web_server

MIB = 1024 * 1024
SIZE = 10 * MIB

HOSTILE: dict[str, Callable[[], bytes]] = {
    "empty objects": lambda: b"[" + b"{}," * (SIZE // 3 - 2) + b"{}]",
    "empty lists": lambda: b'{"id": "x", "messages": [' + b"[]," * (SIZE // 3 - 20) + b"[]]}",
    "escapes": lambda: b'{"id": "' + b"\\u0041" * (SIZE // 6 - 10) + b'"}',
    "escaped quotes": lambda: b'{"id": "' + b'\\"' * (SIZE // 2 - 10) + b'"}',
    "brackets in texts": lambda: b"[" + b'"[",' * (SIZE // 4 - 2) + b"1]",
    "nests": lambda: b"[" * (SIZE // 2) + b"]" * (SIZE // 2),
    "a million names": lambda: b"{" + b",".join(b'"%d":1' % name for name in range(1_000_000))[: SIZE - 2] + b"}",
    "a huge number": lambda: b'{"id": ' + b"9" * (SIZE - 20) + b"}",
    "many huge numbers": lambda: b"[" + (b"9" * 4000 + b",") * (SIZE // 4001 - 1) + b"1]",
}


@pytest.fixture(scope="module")
def server(django_db_setup: None) -> Iterator[WebServer]:
    with web_server(workers=2) as server:
        yield server


def send(server: WebServer, path: str, raw: bytes, headers: dict[str, str]) -> tuple[int, bytes, float]:
    began = time.monotonic()
    connection = server.connect()
    connection.request("POST", path, raw, {"Content-Type": "application/json", **headers})
    response = connection.getresponse()
    answer = response.status, response.read()
    connection.close()
    return *answer, time.monotonic() - began


def unknown(caller: Caller, raw: bytes) -> dict[str, str]:
    """Well-formed credentials of a key that does not exist."""
    return {name: value[:-6] + "000000" for name, value in caller.credentials(raw).items()} | (
        {"X-Mindsay-Timestamp": str(int(time.time()))} if isinstance(caller, SigningCaller) else {}
    )


@pytest.mark.long(reason="eight large bodies at once, seven times, and how soon they are refused is measured")
@pytest.mark.parametrize(
    ("path", "caller_type", "is_known"),
    [
        ("conversations", TokenCaller, True),
        ("conversations", TokenCaller, False),
        ("conversations/identify", TokenCaller, True),
        ("requests/batch", TokenCaller, True),
        ("requests/batch", SigningCaller, True),
        ("requests/batch", SigningCaller, False),
        ("data-deletion", SigningCaller, False),
    ],
)
def test_eight_hostile_bodies_at_once_are_refused_at_once_and_cost_little(
    server: WebServer, chatbot: Chatbot, path: str, caller_type: type[Caller], is_known: bool
) -> None:
    caller = caller_type(chatbot)
    bodies = [make() for make in HOSTILE.values()]
    headers = [caller.credentials(raw) if is_known else unknown(caller, raw) for raw in bodies]
    send(server, caller.url(path), b"{}", caller.credentials(b"{}"))
    server.forget_peak()
    before = server.peak_memory_of_all()

    with ThreadPoolExecutor(len(bodies)) as threads:
        answers = list(threads.map(lambda raw, head: send(server, caller.url(path), raw, head), bodies, headers))

    grown = server.peak_memory_of_all() - before
    for status, answer, _ in answers:
        refused = status == 200 and all("error" in one for one in json.loads(answer)["results"])
        assert refused or status in ({400, 413, 429} if is_known else {401, 413})
    assert grown < 300 * MIB
    # A second each on a machine at rest: this one may have other things to do.
    assert max(seconds for _, _, seconds in answers) < 10
    assert not Conversation.objects.exists()


def document(messages: int, number: int = 0) -> dict[str, object]:
    message = {
        "sender": "bot",
        "kind": "text",
        "text": 'A "text", {with} [brackets], \\ and ü.',
        "sent_at": "2026-11-23T09:00:00Z",
    }
    began = {"channel": "widget", "started_at": "2026-11-23T09:00:00Z"}
    return {"id": f"c-{number}", **began, "messages": [{"id": f"m{each}", **message} for each in range(messages)]}


@pytest.mark.long(reason="60,000 messages are stored in each form; small bodies of each are sent always")
@pytest.mark.parametrize("kind", ["one document", "a list", "JSON Lines"])
def test_10_mb_of_conversations_are_taken(server: WebServer, chatbot: Chatbot, kind: str) -> None:
    caller = TokenCaller(chatbot)
    each = 60 if kind != "one document" else 60_000
    documents = [document(each, number) for number in range(60_000 // each)]
    raw = (
        "\n".join(map(json.dumps, documents))
        if kind == "JSON Lines"
        else json.dumps(documents[0] if len(documents) == 1 else documents)
    )
    media_type = "application/x-ndjson" if kind == "JSON Lines" else "application/json"
    assert 0.8 * SIZE < len(raw) <= SIZE

    status, answer, _ = send(
        server, caller.url("conversations"), raw.encode(), {**caller.credentials(b""), "Content-Type": media_type}
    )

    assert status == 200
    assert {one["outcome"] for one in json.loads(answer)["results"]} == {"created"}
    assert Message.objects.count() == 60_000


def begin(server: WebServer, path: str, headers: dict[str, str], length: int) -> socket.socket:
    """Send the head of a call with a body of this length, and no byte of it."""
    caller = socket.create_connection(("127.0.0.1", server.port), timeout=30)
    lines = [
        f"POST {path} HTTP/1.1",
        "Host: 127.0.0.1",
        "Content-Type: application/json",
        f"Content-Length: {length}",
    ]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    caller.sendall("\r\n".join([*lines, "", ""]).encode())
    return caller


def test_a_long_body_is_refused_before_a_byte_of_it_is_read(server: WebServer, chatbot: Chatbot) -> None:
    caller = TokenCaller(chatbot)
    known, nobody = caller.credentials(b""), unknown(caller, b"")
    old = {"X-Mindsay-Timestamp": "1", "X-Mindsay-Signature": "0" * 64}
    wrong = {"X-Mindsay-Timestamp": str(int(time.time())), "X-Mindsay-Signature": "x"}
    for path, credentials, status in (
        ("conversations", {}, 401),
        ("conversations", nobody, 401),
        ("conversations/1/files", {}, 401),
        ("data-deletion", {}, 401),
        ("data-deletion", known, 413),
        ("requests/batch", old, 401),
        ("requests/batch", wrong, 401),
        ("nowhere", known, 404),
    ):
        for expected in ({}, {"Expect": "100-continue"}):
            headers = {**credentials, **expected}
            with begin(server, caller.url(path), headers, SMALL_BODY_BYTES + 1) as connection:
                response = http.client.HTTPResponse(connection)
                response.begin()
                assert (response.status, response.getheader("Connection")) == (status, "close"), (path, status)
                assert json.loads(response.read())["status"] == status


def test_a_long_body_of_an_authenticated_caller_is_requested(server: WebServer, chatbot: Chatbot) -> None:
    caller, raw = TokenCaller(chatbot), json.dumps(document(2_000)).encode()
    headers = {**caller.credentials(raw), "Expect": "100-continue"}
    with begin(server, caller.url("conversations"), headers, len(raw)) as connection:
        assert connection.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(raw)
        response = http.client.HTTPResponse(connection)
        response.begin()
        assert response.status == 200


def test_a_client_that_keeps_sending_can_still_read_the_refusal(server: WebServer, chatbot: Chatbot) -> None:
    status, answer, _ = send(server, TokenCaller(chatbot).url("conversations"), os.urandom(SIZE), {})
    assert (status, json.loads(answer)["code"]) == (401, "not_authenticated")


FORM = {"Content-Type": "application/x-www-form-urlencoded"}


def test_a_long_form_of_an_anonymous_user_is_not_read(server: WebServer) -> None:
    for path in ("/admin/login/", "/admin/login/code/", "/admin/nowhere/"):
        status, page, _ = send(server, path, b"a=" + b"x" * MIB, FORM)
        assert status == 413
        assert b"Log in, and send it again." in page


def test_a_form_in_broken_chunks_is_refused(server: WebServer) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as caller:
        head = "POST /admin/login/ HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n"
        caller.sendall(f"{head}Content-Type: {FORM['Content-Type']}\r\n\r\nzz\r\n".encode())
        response = http.client.HTTPResponse(caller)
        response.begin()
        assert response.status == 400
