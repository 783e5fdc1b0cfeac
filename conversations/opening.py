"""Open a transcript: whoever reads what a person said stands in the change log."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from django.db import transaction
from django.db.models.functions import Now

from chatbots import changelog
from conversations.messages import ConversationClosed
from conversations.models import Conversation, Identity, UploadedFile, VariableValue

MOST_IDENTITIES = 100
MOST_FILES = 100


class Facts(NamedTuple):
    """What is held of a conversation besides what was said. Of identities and files the first 100."""

    identities: list[Identity]
    values: list[VariableValue]
    files: list[UploadedFile]


@contextmanager
def opened(conversation: Conversation, *, actor: str) -> Iterator[Conversation]:
    """Give an open conversation to read from, and write into the change log that it was opened.

    Each page of a transcript that is read is an entry: a later page has an address too, and nobody is to read one
    unseen. The conversation stays locked until all is read, so that nothing is shown after the mark of a deletion.
    Raises ConversationClosed.
    """
    with transaction.atomic():
        live = Conversation.objects.select_for_update(no_key=True).filter(
            pk=conversation.pk, deletion_request_id__isnull=True
        )
        locked = live.first()
        if locked is None:
            raise ConversationClosed
        changelog.record(
            "conversation.opened",
            chatbot_id=locked.chatbot_id,
            actor=actor,
            data={"conversation": locked.pk},
        )
        yield locked


def facts(conversation: Conversation) -> Facts:
    """Return what stands beside the transcript, in three statements."""
    identities = Identity.objects.filter(conversation=conversation).select_related("variable")
    values = VariableValue.objects.filter(conversation=conversation, expires_at__gt=Now()).select_related("variable")
    files = UploadedFile.objects.filter(conversation=conversation).order_by("id")
    return Facts(
        list(identities.order_by("variable_id", "value")[:MOST_IDENTITIES]),
        sorted(values, key=lambda one: one.variable.name),
        list(files[:MOST_FILES]),
    )
