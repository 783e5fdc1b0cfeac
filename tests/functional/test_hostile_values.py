"""Any value anywhere in a call of the API is taken or refused, and what is refused changes nothing."""

import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest
from django.db import connection
from hypothesis import example, given
from hypothesis import strategies as st

from chatbots.models import Chatbot
from compliance.models import ComplianceRequest
from conversations.models import Conversation, Identity, Message
from tests.calls import TokenCaller
from tests.document import dereferenced, operations
from tests.every_call import ANYTHING
from tests.functional.test_who_may import something_of
from tests.fuzzing import examples, texts
from tests.wrong_json import SECRET, WRONG, Path, changed, places, written

pytestmark = [pytest.mark.django_db, pytest.mark.fuzz]


class Calls:
    """The calls of the API: the bodies in its document, and the parameters of its addresses."""

    def __init__(self, chatbot: Chatbot) -> None:
        self.caller = TokenCaller(chatbot)
        self._values = {**ANYTHING, **something_of(chatbot)}
        self.bodies: list[tuple[str, Any]] = []
        self.parameters: list[tuple[str, str]] = []
        for operation in operations():
            if "{slug}" not in operation.path:
                continue
            path = self._path(operation.path)
            if operation.method == "get":
                named = map(dereferenced, operation.document["parameters"])
                self.parameters += [(path, one["name"]) for one in named if one["in"] == "query"]
            content = operation.document.get("requestBody", {}).get("content", {}).get("application/json", {})
            self.bodies += [(path, one["value"]) for one in content.get("examples", {}).values() if one["value"]]
        assert len(self.bodies) >= 8
        assert len(self.parameters) >= 10

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
def test_any_value_in_a_body_is_taken_or_refused(
    calls: Calls, call: int, place: int, value: Any, name: str | None
) -> None:
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


@examples(25)
@given(
    parameter=st.integers(0),
    value=texts(most=2_100)
    | st.sampled_from(
        ["\0", "9" * 400, "-1", "2026-11-23T09:00:00Z", "9999-12-31T23:59:59Z", "0001-01-01T00:00:00Z"]
    ),
    again=st.booleans(),
)
def test_any_parameter_is_taken_or_refused(calls: Calls, parameter: int, value: str, again: bool) -> None:
    path, name = calls.parameters[parameter % len(calls.parameters)]
    query = f"{name}={quote(value)}" + (f"&{name}=" if again else "")

    answer = calls.caller.get(f"{path}?{query}")

    assert answer.status_code in {200, 302, 400, 404, 409, 410}, (path, name, value)
    if answer.status_code == 400:
        assert answer.json()["errors"]
