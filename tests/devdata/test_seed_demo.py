from typing import Any

import pytest
from django.apps import apps
from django.core.management import CommandError
from django.db.models import Count
from django.db.models.functions import Length

from chatbots.models import ChangeLogEntry, Chatbot, Variable
from conversations.models import Conversation, Identity, Message, UploadedFile
from tests.commands import report

SLUGS = ["cedar-kitchen", "gleis-sieben", "lantern-books"]


# The app is only installed in a development copy.
pytestmark = pytest.mark.skipif(not apps.is_installed("devdata"), reason="DATABASE_URL or SECRET_KEY is set")


def seed(*words: str) -> dict[str, Any]:
    return report("seed_demo", *words)


@pytest.mark.long(reason="the sample data is made")
@pytest.mark.django_db
def test_it_creates_chatbots_and_conversations_as_varied_as_real_ones_with_their_files(storage) -> None:
    made = seed()

    chatbots = Chatbot.objects.filter(compliance_enabled=True).order_by("slug")
    assert [chatbot.slug for chatbot in chatbots] == SLUGS
    assert len({chatbot.timezone for chatbot in chatbots}) == 3
    assert set(Variable.objects.filter(is_uci=True).values_list("category", flat=True)) == {"custom", "user_channel"}
    assert ChangeLogEntry.objects.filter(event="chatbot.created").count() == 3

    conversations = Conversation.objects.all()
    assert conversations.count() == 300
    assert sum(chatbot["conversations"]["created"] for chatbot in made["chatbots"]) == 300
    assert set(conversations.values_list("channel", flat=True)) == set(Conversation.Channel.values)
    assert set(conversations.values_list("csat_vote", flat=True)) == {*Conversation.CsatVote.values, None}
    assert len(set(conversations.values_list("language", flat=True))) == 9
    for flag in ("has_push", "has_agent_handover", "has_file_upload"):
        assert 0 < conversations.filter(**{flag: True}).count() < 300
    assert conversations.filter(csat_comment__isnull=False).exists()
    assert conversations.filter(user_name__isnull=True).exists()

    messages = Message.objects.all()
    assert messages.count() == sum(chatbot["messages"] for chatbot in made["chatbots"])
    assert set(messages.values_list("kind", flat=True)) == set(Message.Kind.values) - {"redacted"}
    assert set(messages.values_list("sender", flat=True)) == set(Message.Sender.values)
    assert messages.filter(text__startswith="=").exists()
    assert messages.annotate(length=Length("text")).filter(length__gte=20_000).exists()

    identities = Conversation.objects.annotate(people=Count("identity")).values_list("people", flat=True)
    assert set(identities) == {0, 1, 2}
    assert Identity.objects.values("variable", "value").distinct().count() > 50

    files = UploadedFile.objects.filter(state=UploadedFile.State.STORED)
    assert set(files.values_list("message_id", flat=True)) == set(
        Message.objects.filter(kind="file").values_list("pk", flat=True)
    )
    assert {file.object_key for file in files} == set(storage.keys())
    picture = files.filter(content_type="image/png").order_by("pk").first()
    assert picture is not None
    assert storage.read(picture.object_key).startswith(b"\x89PNG")


@pytest.mark.long(reason="the sample data is made twice")
@pytest.mark.django_db
def test_run_again_it_uploads_the_files_that_an_interrupted_run_missed_and_nothing_else(storage) -> None:
    seed()
    missing = UploadedFile.objects.order_by("pk").values_list("pk", flat=True)[:2]
    UploadedFile.objects.filter(pk__in=list(missing)).delete()
    before = list(Message.objects.order_by("pk").values_list("pk", "text", "sent_at"))

    again = seed()

    assert not any(chatbot["created"] for chatbot in again["chatbots"])
    assert sum(chatbot["conversations"]["unchanged"] for chatbot in again["chatbots"]) == 300
    assert [chatbot["messages"] for chatbot in again["chatbots"]] == [0] * 3
    assert sum(chatbot["files"] for chatbot in again["chatbots"]) == 2
    assert list(Message.objects.order_by("pk").values_list("pk", "text", "sent_at")) == before


@pytest.mark.parametrize("scale", ["0", "-1", "many", "1000000"])
def test_it_refuses_a_scale_that_is_no_number_of_times(scale: str) -> None:
    with pytest.raises(CommandError, match="a whole number from 1 to 100000"):
        seed(f"--scale={scale}")
