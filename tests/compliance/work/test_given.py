"""Requests that reach a statement as its parameter are those of the table."""

from django.utils import timezone

from chatbots.models import Chatbot
from common.db import fetch
from compliance.work.sql import GIVEN, given
from tests.factories import deletion_of, of_conversations

COLUMNS = "r.id, r.seq, r.chatbot_id, r.variable_id, r.uci_digest, r.cutoff_at, r.cutoff_number"


def test_given_requests_are_as_in_the_table(chatbot: Chatbot) -> None:
    began = {
        "cutoff_at": timezone.now(),
        "cutoff_number": 2**40,
        "status": "processing",
        "started_at": timezone.now(),
    }
    filed = [
        deletion_of(chatbot, 'O\'Brien "7" \\ 😀'),
        deletion_of(chatbot, "42", **began),
        of_conversations(chatbot, "a", "b{,}"),
    ]

    values = given([one.pk for one in filed])
    stored = fetch(f"SELECT {COLUMNS} FROM compliance_compliancerequest r ORDER BY r.seq")

    assert fetch(f"SELECT {COLUMNS} FROM {GIVEN} ORDER BY r.seq", values) == stored
    named = fetch(f"SELECT r.conversation_digests FROM {GIVEN} ORDER BY r.seq", values)
    assert [digests for (digests,) in named] == [None, None, filed[2].conversation_digests]
    assert len(stored) == len(filed)
    assert fetch(f"SELECT r.id FROM {GIVEN}", given([])) == []
    assert "Brien" not in values["requests"]
