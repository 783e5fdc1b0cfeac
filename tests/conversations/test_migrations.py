"""The migrations that change stored rows."""

from datetime import UTC, datetime, timedelta
from importlib import import_module
from types import SimpleNamespace

import pytest
from django.apps import apps
from django.db import connection
from django.utils import timezone

from chatbots.models import Variable
from compliance.retention import due
from conversations.models import Conversation, Identity
from tests import factories

Way = Identity.EstablishedBy


@pytest.mark.parametrize("batch", [1, 2, 10])
def test_what_came_through_the_user_channel_is_found_in_batches(chatbot, neighbour, monkeypatch, batch) -> None:
    migration = import_module("conversations.migrations.0007_identities_of_the_user_channel")
    monkeypatch.setattr(migration, "_BATCH", batch)
    for each in (chatbot, neighbour):
        # One person in several conversations: a batch can end between them.
        for value in ("42", "42", "42", "43", "44"):
            factories.conversation_by(each, {value: Way.CUSTOM})
        factories.conversation_by(each, {"45": Way.SIGNED})
    Variable.objects.filter(chatbot=chatbot).update(category=Variable.Category.USER_CHANNEL)

    migration.update(apps, SimpleNamespace(connection=connection))

    ways = {
        each: sorted(Identity.objects.filter(chatbot=each).values_list("established_by", flat=True))
        for each in (chatbot, neighbour)
    }
    assert ways == {chatbot: ["signed", *["user_channel"] * 5], neighbour: [*["custom"] * 5, "signed"]}


@pytest.mark.parametrize("batch", [1, 10])
def test_times_of_the_future_become_those_of_the_update(chatbot, neighbour, monkeypatch, batch) -> None:
    migration = import_module("conversations.migrations.0011_future_times")
    monkeypatch.setattr(migration, "_BATCH", batch)
    past, future = datetime(2020, 1, 1, tzinfo=UTC), datetime(2999, 1, 1, tzinfo=UTC)
    times = [(past, past), (past, None), (past, future), (future, past), (future, None)]
    for each in (chatbot, neighbour):
        for started_at, last_message_at in times:
            factories.conversation_of(each, "42", started_at=started_at, last_message_at=last_message_at)
    before = timezone.now()

    migration.bound(apps, SimpleNamespace(connection=connection))

    for each in (chatbot, neighbour):
        rows = list(Conversation.objects.filter(chatbot=each).order_by("pk"))
        assert [(row.started_at, row.last_message_at) for row in rows[:2]] == times[:2]
        assert all(row.last_message_at and before <= row.last_message_at <= timezone.now() for row in rows[2:])
        # The period counts from then on.
        later = before + timedelta(days=1)
        assert due.count(each, later).number == 5
        assert due.count(each, before - timedelta(days=1)).number == 2
