"""Any value and any cursor in a call is taken or refused; what is refused changes and shows nothing."""

import json
from collections.abc import Iterator
from functools import cache
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

import pytest
from django.db import connection
from django.urls import reverse
from django.utils import timezone
from hypothesis import example, given
from hypothesis import strategies as st

from chatbots.models import Chatbot
from compliance.models import ComplianceRequest
from conversations.models import Conversation, Identity, Message
from tests.calls import TokenCaller, pointers
from tests.console.monitoring.test_pages import many_requests
from tests.document import operations
from tests.every_call import ANYTHING
from tests.factories import ConversationFactory, UploadedFileFactory, conversation_of, deletion_of
from tests.functional.test_who_may import something_of
from tests.fuzzing import examples, texts
from tests.holding import place
from tests.people import Role, member
from tests.wrong_json import SECRET, WRONG, Path, changed, places, written

pytestmark = [pytest.mark.django_db, pytest.mark.fuzz]


def lists_of(chatbot: Chatbot) -> Iterator[str]:
    """Yield the path of each list of the API, below the slug. `compliance/api/test_changelog.py` tests JSON Lines."""
    number = Conversation.objects.filter(chatbot=chatbot).earliest("pk").pk
    for operation in operations():
        is_list = any(one.get("name") == "cursor" for one in operation.document["parameters"])
        if is_list and "application/json" in operation.document["responses"]["200"]["content"]:
            yield operation.path.split("{slug}/")[1].replace("{number}", str(number))


def fill(chatbot: Chatbot) -> None:
    for value in ("1", "2", "3"):
        conversation = conversation_of(chatbot, value, messages=3)
        deletion_of(chatbot, value)
        place(chatbot, value, matter="a-case")
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
            for caller, lists in ((self.caller, self.paths), (TokenCaller(neighbour), list(lists_of(neighbour))))
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
def test_any_cursor_is_refused_or_shows_own_rows(api, which, cursor, changes, made_up) -> None:
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
            many_requests(one, 220)
            ConversationFactory.create_batch(60, chatbot=one, started_at=timezone.now())
        self.client = member(chatbot, Role.OFFICER)
        self.foreign = [*_ids(neighbour)]
        clients = (self.client, member(neighbour, Role.OFFICER))
        self.cursors = [
            cursor for client in clients for page in PAGES for cursor in _cursors(client.get(_address(page)).text)
        ]
        assert len(self.cursors) >= 2 * 4


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
def test_any_cursor_of_the_console_is_not_found_or_shows_own_rows(console, page, cursor, changes, made_up) -> None:
    text = edited(console.cursors[cursor % len(console.cursors)], changes) if made_up is None else made_up

    answer = console.client.get(_address(page), {"cursor": text})

    assert answer.status_code in {200, 404}
    assert not [one for one in console.foreign if one in answer.text]


class Calls:
    """The calls of the API, with the bodies in its document."""

    def __init__(self, chatbot: Chatbot) -> None:
        self.caller = TokenCaller(chatbot)
        self._values = {**ANYTHING, **something_of(chatbot)}
        self.bodies: list[tuple[str, Any]] = []
        for operation in operations():
            if "{slug}" not in operation.path:
                continue
            path = self._path(operation.path)
            content = operation.document.get("requestBody", {}).get("content", {}).get("application/json", {})
            self.bodies += [(path, one["value"]) for one in content.get("examples", {}).values() if one["value"]]
        assert len(self.bodies) >= 8

    def _path(self, path: str) -> str:
        for name, value in self._values.items():
            path = path.replace(f"{{{name}}}", str(value))
        return path


@pytest.fixture
def calls(chatbot: Chatbot) -> Calls:
    return Calls(chatbot)


def rows() -> list[int]:
    return [model.objects.count() for model in (ComplianceRequest, Conversation, Identity, Message)]


def outcomes(answer: Any) -> Iterator[Any]:
    """Yield an answer, or each of its results that is an error."""
    if answer.status_code >= 400:
        yield answer.json()
    for one in answer.json().get("results") or () if answer.status_code == 200 else ():
        if isinstance(one, dict) and one.get("error"):
            yield one["error"]


NAMES = st.sampled_from([SECRET, "", "\0", "\ud800", "__proto__", "id", "action"])


@examples(60)
@given(
    call=st.integers(0), place=st.integers(0), value=st.sampled_from(WRONG) | texts(most=600), name=st.none() | NAMES
)
@example(call=0, place=0, value="\ud800", name=None)
@example(call=0, place=0, value=1, name="\ud800")
def test_any_value_in_a_body_is_taken_or_refused(calls, call, place, value, name) -> None:
    path, body = calls.bodies[call % len(calls.bodies)]
    found: list[Path] = list(places(body))
    where = found[place % len(found)]
    raw = written(changed(body, where if name is None else (*where[:-1], name), value))
    before = rows()

    answer = calls.caller.post(path, raw)

    assert answer.status_code < 500, (path, raw)
    for problem in outcomes(answer):
        assert problem["code"], path
        assert SECRET not in json.dumps(problem)
    if answer.status_code >= 400:
        assert rows() == before
    # A statement that failed would have ended the transaction.
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
