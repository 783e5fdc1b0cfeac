"""Many requests at once are carried out set-wise."""

import math

import pytest
from django.db import connection
from django.db.models.functions import Now
from django.test.utils import CaptureQueriesContext

from chatbots.models import Chatbot
from common.storage import ObjectStorage
from compliance import worker
from compliance.ledger import service
from compliance.models import ComplianceRequest, JournalEntry
from conversations import machines
from conversations.models import Conversation, Message
from tests.factories import conversation_of, deletion_of

Status = ComplianceRequest.Status


def test_they_are_erased_set_wise(chatbot: Chatbot, storage: ObjectStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    """A claim costs the same number of statements whether it holds three requests or sixty."""

    def statements(chatters: int) -> int:
        for number in range(chatters):
            conversation_of(chatbot, f"{chatters}-{number}", messages=1)
            deletion_of(chatbot, f"{chatters}-{number}")
        JournalEntry.objects.update(at=Now())  # younger than what the journal writes on a slow machine
        with CaptureQueriesContext(
            connection,
        ) as queries:
            worker.drain(seconds=60)
        return len(queries)

    machines.look()
    monkeypatch.setattr(machines, "LOOK_SECONDS", math.inf)  # nor are machines of Citus asked again meanwhile
    worker.drain()  # shares the storage state learned while emptying the bucket
    service.current()
    assert statements(60) == statements(3)
    assert not Message.objects.exists()
    assert Conversation.objects.filter(deleted_at__isnull=False).count() == 63
    assert set(ComplianceRequest.objects.values_list("status", flat=True)) == {Status.COMPLETED}
