"""A key of one chatbot learns nothing about another: not by responses, headers, or the work they cost.

Every call of the resolver is made. Statements are compared instead of times, since a test of times would fail on a
busy machine.
"""

import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from chatbots.models import Chatbot
from tests.calls import ALICE, Caller, SigningCaller, TokenCaller
from tests.conversations.forms import BOUNDARY, FORM, file
from tests.every_call import AnyCall, every_call
from tests.functional.test_who_may import something_of

CALLS_WITH_PARAMETERS = [one for one in every_call() if one.parameters]
_EACH_CALLER = pytest.mark.long(reason="each call of the API by each kind of caller")
CALLERS = pytest.mark.parametrize(
    "caller_type", [TokenCaller, *(pytest.param(one, marks=_EACH_CALLER) for one in (SigningCaller, Caller))]
)

# Bodies for calls that refuse an empty object before they search the object in the path.
_BODIES: Mapping[str, tuple[bytes, str]] = {
    "conversations/<int:number>/files": (
        f"--{BOUNDARY}\r\n".encode() + file(b"x") + f"\r\n--{BOUNDARY}--\r\n".encode(),
        FORM,
    ),
    "conversations/<int:number>/messages/redact": (
        json.dumps({"ids": ["m1"], "reason": "payment_data"}).encode(),
        "application/json",
    ),
    "requests/<uuid:request_id>/reject": (json.dumps({"reason": "other"}).encode(), "application/json"),
    "requests/<uuid:request_id>/extend": (json.dumps({"reason": "complexity"}).encode(), "application/json"),
    "requests/<uuid:request_id>/answered": (json.dumps({"letter": "held"}).encode(), "application/json"),
    "legal-holds/<uuid:hold_id>/review": (
        json.dumps({"review_at": f"{datetime.now(UTC) + timedelta(days=90):%Y-%m-%d}"}).encode(),
        "application/json",
    ),
    "legal-holds/<uuid:hold_id>/release": (json.dumps({"reason": "matter_closed"}).encode(), "application/json"),
}


class Seen(NamedTuple):
    """All that a caller can see of an answer, and what the database was asked for it."""

    status: int
    headers: dict[str, str]
    body: bytes
    statements: list[str]


@pytest.fixture
def theirs(neighbour: Chatbot) -> dict[str, Any]:
    """A row of the other chatbot for each path parameter."""
    return something_of(neighbour) | {"day": "1990-01-01"}


def body_of(call: AnyCall) -> tuple[bytes, str]:
    if call.method != "POST":
        return b"", ""
    body = {} if call.parameters else ALICE
    return _BODIES.get(call.path, (json.dumps(body).encode(), "application/json"))


def look(call: AnyCall, caller: Caller, slug: str, values: Mapping[str, Any]) -> Seen:
    raw, content_type = body_of(call)
    url = f"/api/v1/chatbots/{slug}/{call.below_slug(**values)}"
    headers = {**caller.credentials(raw), "X-Request-ID": "the-same-for-all"}
    with CaptureQueriesContext(connection) as captured:
        response = caller.client.generic(call.method, url, raw, content_type, headers=headers)
    statements = [re.sub(r"'[^']*'|\b\d+\b", "?", query["sql"]) for query in captured.captured_queries]
    seen = {name: value for name, value in response.items() if name not in {"RateLimit-Remaining", "X-Trace-ID"}}
    # Each call has an id of its own.
    body = response.getvalue().replace(response.headers["X-Trace-ID"].encode(), b"")
    return Seen(response.status_code, seen, body, statements)


@CALLERS
def test_another_users_chatbot_looks_nonexistent(chatbot, neighbour, theirs, caller_type):
    caller = caller_type(chatbot)
    SigningCaller(neighbour, secret="of the neighbour")
    for call in every_call():
        # The first use of a key in a minute is recorded for every call.
        look(call, caller, "nobody", theirs)
        there, nowhere = look(call, caller, neighbour.slug, theirs), look(call, caller, "nobody", theirs)
        assert there == nowhere, call
        assert there.status == (404 if caller_type is TokenCaller else 401), call


def test_rows_of_others_look_nonexistent(chatbot, theirs):
    for call in CALLS_WITH_PARAMETERS:
        caller = TokenCaller(chatbot)
        look(call, caller, chatbot.slug, {})

        there, nowhere = look(call, caller, chatbot.slug, theirs), look(call, caller, chatbot.slug, {})

        assert there == nowhere, call
        assert there.status == 404, f"{call}: Give the call a body in _BODIES that it takes."
        beyond = {name: 10**30 for name in call.parameters if name in {"number", "file_id"}}
        assert look(call, caller, chatbot.slug, beyond).status == 404, f"{call}: larger than its column"


def test_each_call_finds_its_own_rows(neighbour, theirs):
    # Otherwise the test above would prove nothing.
    caller = TokenCaller(neighbour)
    statuses = {str(call): look(call, caller, neighbour.slug, theirs).status for call in CALLS_WITH_PARAMETERS}
    assert 404 not in statuses.values(), statuses
