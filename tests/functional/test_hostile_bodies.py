"""Any body costs bounded memory and time, behind a proxy as in production."""

import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest

from chatbots.models import Chatbot
from conversations.models import Conversation, Message
from tests.calls import Caller, SigningCaller, TokenCaller
from tests.functional.proxies import NGINX, Proxy, proxy_to
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
    with web_server(workers=2, BEHIND_PROXY="true") as server:
        yield server


@pytest.fixture(scope="module")
def proxy(server: WebServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    with proxy_to(server.port, NGINX, tmp_path_factory.mktemp("nginx")) as proxy:
        yield proxy


def send(proxy: Proxy, path: str, raw: bytes, headers: dict[str, str]) -> tuple[int, bytes, float]:
    began = time.monotonic()
    with closing(proxy.connect()) as connection:
        connection.request("POST", path, raw, {"Content-Type": "application/json", **headers})
        response = connection.getresponse()
        return response.status, response.read(), time.monotonic() - began


def unknown(caller: Caller, raw: bytes) -> dict[str, str]:
    """Well-formed credentials of a key that does not exist."""
    return {name: value[:-6] + "000000" for name, value in caller.credentials(raw).items()} | (
        {"X-Mindsay-Timestamp": str(int(time.time()))} if isinstance(caller, SigningCaller) else {}
    )


@pytest.mark.long(reason="eight large bodies at once, five times, and how soon they are refused is measured")
@pytest.mark.parametrize(
    ("path", "caller_type", "is_known"),
    [
        ("conversations", TokenCaller, True),
        ("conversations", TokenCaller, False),
        ("conversations/identify", TokenCaller, True),
        ("requests/batch", TokenCaller, True),
        ("requests/batch", SigningCaller, False),
    ],
)
def test_eight_hostile_bodies_at_once_are_refused_at_once_and_cost_little(
    server: WebServer, proxy: Proxy, chatbot: Chatbot, *, path: str, caller_type: type[Caller], is_known: bool
) -> None:
    caller = caller_type(chatbot)
    bodies = [make() for make in HOSTILE.values()]
    headers = [caller.credentials(raw) if is_known else unknown(caller, raw) for raw in bodies]
    send(proxy, caller.url(path), b"{}", caller.credentials(b"{}"))
    server.forget_peak()
    before = server.peak_memory_of_all()

    with ThreadPoolExecutor(len(bodies)) as threads:
        answers = list(threads.map(lambda raw, head: send(proxy, caller.url(path), raw, head), bodies, headers))

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
def test_10_mb_of_conversations_are_taken(proxy: Proxy, chatbot: Chatbot, kind: str) -> None:
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
        proxy, caller.url("conversations"), raw.encode(), {**caller.credentials(b""), "Content-Type": media_type}
    )

    assert status == 200
    assert {one["outcome"] for one in json.loads(answer)["results"]} == {"created"}
    assert Message.objects.count() == 60_000
