"""A cursor that was changed, moved or made up is refused or shows a page of the caller's own rows."""

import json
from collections.abc import Iterator
from functools import cache
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

import pytest
from django.urls import reverse
from hypothesis import example, given
from hypothesis import strategies as st

from chatbots.models import Chatbot
from conversations.models import Conversation
from tests.calls import TokenCaller, pointers
from tests.console.monitoring.test_pages import many_requests
from tests.document import operations
from tests.factories import ConversationFactory, UploadedFileFactory, conversation_of, deletion_of
from tests.fuzzing import examples, texts
from tests.people import Role, member

pytestmark = [pytest.mark.django_db, pytest.mark.fuzz]


def lists_of(chatbot: Chatbot) -> Iterator[str]:
    """Yield the path of each list of the API, below the slug."""
    number = Conversation.objects.filter(chatbot=chatbot).earliest("pk").pk
    for operation in operations():
        if any(one.get("name") == "cursor" for one in operation.document["parameters"]):
            yield operation.path.split("{slug}/")[1].replace("{number}", str(number))


def fill(chatbot: Chatbot) -> None:
    for value in ("1", "2", "3"):
        conversation = conversation_of(chatbot, value, messages=3)
        deletion_of(chatbot, value)
        UploadedFileFactory.create_batch(3, conversation=conversation, stored=True)


def cursor_in(url: str) -> str:
    return parse_qs(urlsplit(url).query)["cursor"][0]


@st.composite
def edits(draw: st.DrawFn) -> list[tuple[float, int, str]]:
    """Draw what to cut out of a text and to put in, each at a share of its length."""
    put = st.text(st.sampled_from("AZaz09-_=:. \n\0é%+/"), max_size=4)
    return draw(st.lists(st.tuples(st.floats(0, 1), st.integers(0, 5), put), min_size=1, max_size=3))


def edited(text: str, changes: list[tuple[float, int, str]]) -> str:
    for share, cut, put in changes:
        place = round(share * len(text))
        text = text[:place] + put + text[place + cut :]
    return text


class Api:
    """A caller with the cursors of each of its lists, of a neighbour's, and all that it may see."""

    def __init__(self, chatbot: Chatbot, neighbour: Chatbot) -> None:
        for one in (chatbot, neighbour):
            fill(one)
        self.caller = TokenCaller(chatbot)
        self.paths = list(lists_of(chatbot))
        self.own = {path: self.rows(self.caller.get(path)) for path in self.paths}
        self.cursors = [
            cursor_in(caller.get(f"{path}?limit=1").json()["next"])
            for caller, lists in (
                (self.caller, self.paths),
                (TokenCaller(neighbour), list(lists_of(neighbour))),
            )
            for path in lists
        ]
        assert all(len(rows) >= 3 for rows in self.own.values())

    @staticmethod
    def rows(answer: Any) -> list[str]:
        return [json.dumps(one, sort_keys=True) for one in answer.json()["results"]]


@pytest.fixture
def api(chatbot: Chatbot, neighbour: Chatbot) -> Api:
    return Api(chatbot, neighbour)


@examples(20)
@given(
    which=st.integers(0), cursor=st.integers(0), changes=edits() | st.just([]), made_up=st.none() | texts(most=300)
)
@example(which=0, cursor=0, changes=[], made_up="v1:" + "a" * 1_990)
def test_any_cursor_is_refused_or_shows_own_rows(
    api: Api, which: int, cursor: int, changes: list[tuple[float, int, str]], made_up: str | None
) -> None:
    path = api.paths[which % len(api.paths)]
    text = edited(api.cursors[cursor % len(api.cursors)], changes) if made_up is None else made_up

    answer = api.caller.get(f"{path}?cursor={quote(text)}")

    if answer.status_code == 200:
        assert set(api.rows(answer)) <= set(api.own[path])
    else:
        assert pointers(answer).keys() == {"/cursor"}


def test_a_neighbours_cursors_are_refused(api: Api) -> None:
    half = len(api.cursors) // 2
    for path, cursor in zip(api.paths, api.cursors[half:], strict=True):
        assert pointers(api.caller.get(f"{path}?cursor={quote(cursor)}")) == {"/cursor": "invalid"}


# --- The console ------------------------------------------------------------------------------------------

PAGES = (
    "requests",
    "exports",
    "callbacks",
    "conversations",
    "extracts",
    "refused_identities",
    "changelog",
    "chatbots",
)


@cache
def _address(page: str) -> str:
    return reverse(f"console:{page}")


class Console:
    """A viewer of one chatbot, and real cursors of lists that have more than a page."""

    def __init__(self, chatbot: Chatbot, neighbour: Chatbot) -> None:
        for one in (chatbot, neighbour):
            many_requests(one, 500)
            ConversationFactory.create_batch(60, chatbot=one, started_at=_recently())
        self.client = member(chatbot, Role.OFFICER)
        self.foreign = [*_ids(neighbour)]
        clients = (self.client, member(neighbour, Role.OFFICER))
        self.cursors = [
            cursor for client in clients for page in PAGES for cursor in _cursors(client.get(_address(page)).text)
        ]
        assert len(self.cursors) >= 2 * 4


def _recently() -> Any:
    from django.utils import timezone

    return timezone.now()


def _ids(chatbot: Chatbot) -> Iterator[str]:
    yield from map(str, chatbot.requests.values_list("pk", flat=True))
    yield f"chatbot={chatbot.slug}"
    yield chatbot.name


def _cursors(text: str) -> Iterator[str]:
    for part in text.split("cursor=")[1:]:
        yield parse_qs("cursor=" + part.partition('"')[0].replace("&amp;", "&"))["cursor"][0]


@pytest.fixture
def console(chatbot: Chatbot, neighbour: Chatbot) -> Console:
    return Console(chatbot, neighbour)


@examples(20)
@given(
    page=st.sampled_from(PAGES),
    cursor=st.integers(0),
    changes=edits() | st.just([]),
    made_up=st.none() | texts(most=300),
)
def test_any_cursor_of_the_console_is_not_found_or_shows_own_rows(
    console: Console, page: str, cursor: int, changes: list[tuple[float, int, str]], made_up: str | None
) -> None:
    text = edited(console.cursors[cursor % len(console.cursors)], changes) if made_up is None else made_up

    answer = console.client.get(_address(page), {"cursor": text})

    assert answer.status_code in {200, 404}
    assert not [one for one in console.foreign if one in answer.text]
