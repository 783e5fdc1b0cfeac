"""The API: each call is made, also after one that is refused."""

import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import ClassVar
from uuid import UUID

import pytest

from compliance.canary import api
from compliance.canary.client import Client
from compliance.canary.trouble import Budget, CannotTell
from compliance.canary.words import Search, planted
from compliance.models import CanaryTurn
from tests.compliance.canary.support import collect
from tests.factories import NOON

WORDS = planted(UUID(int=1))


class Service(BaseHTTPRequestHandler):
    """Refuses each call but those of `answers`."""

    answers: ClassVar[dict[str, object]] = {}

    def do_GET(self) -> None:
        name = self.path.partition("?")[0].rpartition("/")[2]
        self.send_response(200 if name in self.answers else 403)
        self.end_headers()
        self.wfile.write(json.dumps(self.answers.get(name)).encode())

    def do_POST(self) -> None:
        self.do_GET()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def client() -> Iterator[Client]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Service) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        address = f"http://127.0.0.1:{server.server_port}"
        yield Client(address, "canary", secret="s", token="t", budget=Budget(30))
        server.shutdown()
        thread.join()


def test_a_call_that_is_refused_does_not_end_the_search(client: Client) -> None:
    turn = CanaryTurn(id=UUID(int=1), began_at=NOON)
    Service.answers = {
        "extracts": {},
        "usage": {"who": WORDS.value},
        "preview": {"deletion": {"erased": {"files": 1}}},
    }
    places: list[str] = []

    with pytest.raises(CannotTell, match="api_refused lookUpConversations"):
        collect(api.look(client, WORDS, Search(WORDS), turn), places)

    assert places == ["getUsage", "previewRequest"]


def test_an_id_does_not_show_that_texts_are_served(client: Client) -> None:
    turn = CanaryTurn(id=UUID(int=1), began_at=NOON, numbers=[1])
    page = {"results": [{"id": WORDS.words["conversation"]}], "next": None}
    names = ["conversations", "requests", "messages", "files"]
    Service.answers = dict.fromkeys(names, page) | {
        "lookup": {"results": []},
        "1": {"id": WORDS.words["conversation"], "user_name": WORDS.words["name"]},
        "extracts": {},
        "usage": {},
        "preview": {"deletion": {"erased": {"conversations": 1}}},
    }

    assert api.control(client, WORDS, turn) == [
        "listConversations",
        "listFiles",
        "listMessages",
        "lookUpConversations",
    ]
