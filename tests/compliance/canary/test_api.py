"""The API: each call is made, also after one that is refused."""

from uuid import UUID

import pytest

from compliance.canary import api
from compliance.canary.client import Client
from compliance.canary.trouble import Budget, CannotTell
from compliance.canary.words import Search, planted
from compliance.models import CanaryTurn
from tests.compliance.canary.support import Service, collect
from tests.factories import NOON

WORDS = planted(UUID(int=1))


@pytest.fixture
def client(service: type[Service]) -> Client:
    return Client(service.address, "canary", secret="s", token="t", budget=Budget(30))


def test_a_call_that_is_refused_does_not_end_the_search(client: Client, service: type[Service]) -> None:
    turn = CanaryTurn(id=UUID(int=1), began_at=NOON)
    service.answers = {
        "extracts": {},
        "usage": {"who": WORDS.value},
        "preview": {"deletion": {"erased": {"files": 1}}},
    }
    places: list[str] = []

    with pytest.raises(CannotTell, match="api_refused lookUpConversations"):
        collect(api.look(client, WORDS, Search(WORDS), turn), places)

    assert places == ["getUsage", "previewRequest"]


def test_an_id_does_not_show_that_texts_are_served(client: Client, service: type[Service]) -> None:
    turn = CanaryTurn(id=UUID(int=1), began_at=NOON, numbers=[1])
    page = {"results": [{"id": WORDS.words["conversation"]}], "next": None}
    names = ["conversations", "requests", "messages", "files"]
    service.answers = dict.fromkeys(names, page) | {
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
