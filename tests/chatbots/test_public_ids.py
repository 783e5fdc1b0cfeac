"""Public ids, by which digests and the ledger name chatbots and variables: assigned once, never changed."""

from typing import Any

import pytest
from django.core.management import call_command
from django.db import IntegrityError, transaction
from uuid_utils.compat import uuid7

from chatbots.models import Chatbot, Variable
from chatbots.operations.chatbots import NewVariable, add_variable, create_chatbot
from common.crypto import digest

pytestmark = pytest.mark.django_db


def test_every_way_to_create_a_chatbot_or_variable_gives_it_a_public_id() -> None:
    made = create_chatbot(slug="one", name="One", actor="command", variables=[NewVariable("custom", "member_id")])
    add_variable(chatbot=made, variable=NewVariable("custom", "email"), actor="command")
    call_command("create_chatbot", "two", "--name", "Two", "--variable", "custom:member_id")
    Chatbot.objects.bulk_create([Chatbot(slug="three", name="Three"), Chatbot(slug="four", name="Four")])

    ids = [row.public_id for model in (Chatbot, Variable) for row in model.objects.all()]

    assert {one.version for one in ids} == {7}
    assert len(set(ids)) == len(ids) == 7


@pytest.mark.parametrize("model", [Chatbot, Variable])
def test_the_database_refuses_to_change_a_public_id(chatbot: Chatbot, model: Any) -> None:
    with pytest.raises(IntegrityError, match="never changes"), transaction.atomic():
        model.objects.update(public_id=uuid7())
    model.objects.first().save()


def test_a_chatbot_with_an_old_number_has_no_digest_of_the_old_one(chatbot: Chatbot) -> None:
    number, before = chatbot.pk, chatbot.public_id
    chatbot.bucket.delete()
    Variable.objects.filter(chatbot=chatbot).update(is_uci=False)
    Variable.objects.filter(chatbot=chatbot).delete()
    chatbot.delete()

    again = Chatbot.objects.create(pk=number, slug="acme", name="Another")

    assert digest("conversation", again.public_id, "c-1") != digest("conversation", before, "c-1")
