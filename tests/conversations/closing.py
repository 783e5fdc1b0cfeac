"""Conversations with planted texts, open, marked and erased, for tests of what the API returns."""

from datetime import timedelta
from typing import Any
from uuid import UUID

from django.utils import timezone

from chatbots.models import Chatbot
from conversations.models import Conversation, Identity, Message, NameWord, UploadedFile, VariableValue
from tests import factories
from tests.factories import NOON, conversation_of

DELETION = UUID("01a20e4f-2ccd-727b-ad28-e544e31ea60e")
# In each text field of a conversation.
PLANTED = "Xq7-Lovelace"


def planted(chatbot: Chatbot, number: int = 0, **fields: Any) -> Conversation:
    """A conversation with the planted text in every text field."""
    conversation = conversation_of(
        chatbot,
        f"{PLANTED} value {number}",
        **(
            {
                "external_id": f"{PLANTED} {number}",
                "text": f"{PLANTED} said",
                "language": f"{PLANTED} language",
                "user_name": f"{PLANTED} name",
                "csat_comment": f"{PLANTED} comment",
                "csat_score": 4,
                "csat_vote": "positive",
                "score": "7.5",
                "channel": "whatsapp",
                "has_push": True,
                "last_message_at": NOON + timedelta(minutes=3),
            }
            | fields
        ),
    )
    message = Message.objects.filter(conversation=conversation).earliest("id")
    stored_file(conversation, message_id=message.pk)
    return conversation


def stored_file(conversation: Conversation, **fields: Any) -> UploadedFile:
    return factories.UploadedFileFactory.create(
        conversation=conversation,
        **({"name": f"{PLANTED}.jpg", "state": "stored", "size": 7, "sha256": "0" * 64} | fields),
    )


def mark(conversation: Conversation) -> None:
    """Close a conversation, as a deletion does first."""
    Conversation.objects.filter(pk=conversation.pk).update(deletion_request_id=DELETION)


def erase(conversation: Conversation) -> None:
    """Reduce a conversation to what a deletion keeps."""
    for model in (Message, Identity, VariableValue, NameWord, UploadedFile):
        model.objects.filter(conversation=conversation).delete()
    Conversation.objects.filter(pk=conversation.pk).update(
        deletion_request_id=DELETION,
        deleted_at=timezone.now(),
        started_at=conversation.started_at.replace(hour=0, minute=0, second=0, microsecond=0),
        external_id=None,
        uci_variable=None,
        language=None,
        user_name=None,
        last_message_at=None,
        message_count=None,
        csat_comment=None,
    )
