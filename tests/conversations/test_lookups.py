"""Which conversations intake queues for a look-up of their identity."""

import json
from datetime import timedelta
from pathlib import Path

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from chatbots.models import Chatbot
from chatbots.operations.chatbots import designate_uci
from chatbots.operations.resolvers import remove_resolver
from conversations.intake import store
from conversations.models import Conversation, IdentityLookup
from tests.commands import run
from tests.conversations.documents import document, parsed, update
from tests.looking_up import SESSION, begin, lookup_of, resolver_of, with_resolver

URL = "http://127.0.0.1:9/"


@pytest.fixture(autouse=True)
def _resolver(chatbot: Chatbot) -> None:
    with_resolver(chatbot, URL)


def queued() -> set[str | None]:
    return {lookup.conversation.external_id for lookup in IdentityLookup.objects.all()}


def test_a_new_conversation_without_identity_is_queued_once(chatbot: Chatbot) -> None:
    [one, _] = begin(chatbot, "c-1", "c-2")
    lookup = lookup_of(one)
    assert (lookup.state, lookup.attempts, lookup.token) == ("pending", 0, None)
    assert lookup.give_up_at - lookup.queued_at == timedelta(days=1)
    assert lookup.expires_at > lookup.give_up_at
    begin(chatbot, "c-1", "c-2")
    assert lookup_of(one).queued_at == lookup.queued_at
    assert queued() == {"c-1", "c-2"}


def test_what_cannot_or_need_not_be_looked_up_is_not_queued(chatbot: Chatbot, neighbour: Chatbot) -> None:
    begin(chatbot, "known", custom_variables={"member_id": "42"})
    begin(chatbot, "old", started_at=(timezone.now() - timedelta(hours=25)).isoformat())
    store(chatbot=chatbot, documents=[parsed("no-token", custom_variables={}, started_at=timezone.now().isoformat())])
    store(chatbot=neighbour, documents=[parsed("theirs", custom_variables={}, started_at=timezone.now().isoformat())])
    assert queued() == set()
    # The same session again.
    store(chatbot=chatbot, documents=[update("known", user_channel_variables={SESSION: "token-known"})])
    assert queued() == set()


@pytest.mark.parametrize("placeholder", ["", "undefined", "None"])
def test_a_placeholder_is_no_value_to_send(chatbot: Chatbot, placeholder: str) -> None:
    begin(chatbot, "c-1", session=placeholder)
    assert queued() == set()


def test_the_last_value_that_is_missing_queues_it(chatbot: Chatbot) -> None:
    with_resolver(chatbot, URL, send=[SESSION, "plan"])
    begin(chatbot, "c-1")
    assert queued() == set()
    store(chatbot=chatbot, documents=[update("c-1", user_channel_variables={"plan": "gold"})])
    assert queued() == {"c-1"}


def test_a_placeholder_is_no_identity(chatbot: Chatbot) -> None:
    begin(chatbot, "c-1", custom_variables={"member_id": "anonymous"})
    assert queued() == {"c-1"}


@pytest.mark.parametrize("state", ["unknown", "failed", "pending"])
def test_another_value_queues_it_anew(chatbot: Chatbot, state: str) -> None:
    [one] = begin(chatbot, "c-1")
    lookups = IdentityLookup.objects.filter(pk=lookup_of(one).pk)
    ended = {} if state == "pending" else {"next_attempt_at": None, "finished_at": timezone.now()}
    lookups.update(state=state, attempts=3, last_error="bad_status", **ended)
    store(chatbot=chatbot, documents=[update("c-1", language="en")])
    begin(chatbot, "c-1")
    assert lookup_of(one).state == state
    assert lookup_of(one).attempts == 3

    begin(chatbot, "c-1", session="another")

    again = lookup_of(one)
    assert (again.state, again.attempts, again.last_error, again.finished_at) == ("pending", 0, "", None)


def test_an_import_queues_nothing(chatbot: Chatbot, tmp_path: Path) -> None:
    now = timezone.now().isoformat()
    values = {"custom_variables": {}, "user_channel_variables": {SESSION: "token"}}
    file = tmp_path / "conversations.jsonl"
    file.write_text(json.dumps(document("c-1", started_at=now, **values)))
    run("import_conversations", "acme", str(file))
    assert Conversation.objects.count() == 1
    assert queued() == set()


def test_nothing_is_queued_for_a_resolver_that_is_off(chatbot: Chatbot) -> None:
    begin(chatbot, "before")
    designate_uci(chatbot=chatbot, name="plan", actor="test")
    assert not resolver_of(chatbot).is_on
    begin(chatbot, "off")
    remove_resolver(chatbot=chatbot, actor="test")
    begin(chatbot, "none")
    assert queued() == {"before"}


def test_queueing_is_one_statement_and_none_without_a_resolver(chatbot: Chatbot, neighbour: Chatbot) -> None:
    with_resolver(neighbour, URL)
    remove_resolver(chatbot=neighbour, actor="test")
    counts = []
    for owner, ids in ((chatbot, ["a"]), (chatbot, list("bcdefgh")), (neighbour, ["a"])):
        with CaptureQueriesContext(
            connection,
        ) as queries:
            begin(owner, *ids)
        counts.append(len(queries))
    assert counts == [counts[0], counts[0], counts[0] - 1]
    assert len(queued()) == 8
