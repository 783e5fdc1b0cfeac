"""What a deletion writes into the ledger, in the hosted bucket."""

import json

import pytest

from chatbots.buckets import ObjectStorage
from chatbots.models import Chatbot
from chatbots.secrets import digest
from compliance.erasure import ledger
from tests.compliance.conftest import Drain
from tests.factories import as_bytes, conversation_of, deletion_of, of_conversations, uci_of

pytestmark = pytest.mark.django_db


def test_it_writes_a_ledger_without_values(chatbot: Chatbot, drain: Drain, storage: ObjectStorage) -> None:
    conversation = conversation_of(chatbot, "value-of-the-chatter", external_id="id-of-the-platform")
    erased = as_bytes(conversation.external_id_digest).hex()
    request = deletion_of(chatbot, "value-of-the-chatter")

    drain()

    (key,) = storage.keys(ledger.PREFIX)
    content = storage.read(key).decode()
    request.refresh_from_db()
    assert json.loads(content) == {
        "version": 1,
        "erased": [
            {
                "request_id": str(request.pk),
                "chatbot": str(chatbot.public_id),
                "variable": str(uci_of(chatbot).public_id),
                "chatter": as_bytes(request.uci_digest).hex(),
                "cut_at": request.cut_at.isoformat(),
                "conversations": [erased],
            }
        ],
    }
    assert "value-of-the-chatter" not in content
    assert "id-of-the-platform" not in content


def test_the_ledger_has_each_conversation_that_a_deletion_named_once(
    chatbot: Chatbot, drain: Drain, storage: ObjectStorage
) -> None:
    conversation_of(chatbot, external_id="c-1")
    of_conversations(chatbot, "c-1", "c-unknown")
    drain()

    (key,) = storage.keys(ledger.PREFIX)
    (line,) = json.loads(storage.read(key))["erased"]
    assert (line["variable"], line["chatter"]) == (None, "")
    named = [digest("conversation", chatbot.public_id, each).hex() for each in ("c-1", "c-unknown")]
    assert sorted(line["conversations"]) == sorted(named)
