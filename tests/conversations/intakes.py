"""Helpers for the intake tests: store documents and name their outcomes."""

from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

from django.utils import timezone

from chatbots.models import Chatbot, Variable
from common.crypto import digest
from conversations.documents import Document, DocumentInvalid
from conversations.intake import DocumentOutcome, StoreResult, store
from conversations.models import Tombstone
from tests.factories import uci_of

STARTED = datetime(2026, 11, 1, 9, tzinfo=UTC)


def stored(chatbot: Chatbot, *documents: Document | DocumentInvalid) -> list[StoreResult]:
    return store(chatbot=chatbot, documents=documents)


def results(chatbot: Chatbot, *documents: Document | DocumentInvalid) -> list[str]:
    """The outcome of each document, or its error code."""
    return [
        outcome.errors[0].code if outcome.outcome is DocumentOutcome.REFUSED else str(outcome.outcome)
        for outcome in stored(chatbot, *documents)
    ]


def erase(
    chatbot: Chatbot, value: str, *, cutoff_at: datetime, cutoff_number: int = 0, days: int = 90, variable: str = ""
) -> UUID:
    """Record a chatter as erased, as the mark of a deletion does. Without a number nothing was stored before."""
    uci = Variable.objects.get(chatbot=chatbot, name=variable) if variable else uci_of(chatbot)
    erased = Tombstone.objects.create(
        chatbot=chatbot,
        variable=uci,
        digest=digest("chatter", uci.public_id, value),
        cutoff_at=cutoff_at,
        cutoff_number=cutoff_number,
        request_id=uuid4(),
        expires_at=timezone.now() + timedelta(days=days),
    )
    return erased.request_id
