"""The migrations that change stored rows."""

from importlib import import_module
from types import SimpleNamespace

import pytest
from django.apps import apps
from django.db import connection

from chatbots.models import Chatbot, Variable
from conversations.models import Identity
from tests import factories

Way = Identity.EstablishedBy


@pytest.mark.django_db
@pytest.mark.parametrize("batch", [1, 2, 10])
def test_what_came_through_the_user_channel_is_found_in_batches(
    chatbot: Chatbot, neighbour: Chatbot, monkeypatch: pytest.MonkeyPatch, batch: int
) -> None:
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
