"""A deletion, from the request to completion, with the workers' own functions in this process."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import pytest
from django.db import IntegrityError, transaction
from django.utils import timezone

from chatbots.models import ChangeLogEntry, Chatbot
from compliance import worker
from compliance.erasure import rows
from compliance.ledger import journal
from compliance.models import ComplianceRequest
from compliance.requests import decisions
from compliance.work.transitions.completion import Counts
from conversations.models import Conversation, Identity, Message, NameWord, UploadedFile, VariableValue
from tests import factories
from tests.compliance.conftest import Drain
from tests.factories import conversation_of, deletion_of
from tests.patches import before
from tests.under_roles import role

Status = ComplianceRequest.Status
Hold = ComplianceRequest.HoldReason


def test_a_deletion_erases_personal_data_and_keeps_the_documented_rest(chatbot: Chatbot, drain: Drain) -> None:
    conversation = conversation_of(
        chatbot,
        "42",
        messages=3,
        language="en",
        user_name="Ada",
        csat_comment="quick",
        csat_score=4,
        csat_vote="positive",
        score="7.5",
        has_push=True,
        has_agent_handover=True,
        has_file_upload=True,
        started_at=datetime(2026, 11, 1, 22, 30, tzinfo=UTC),
        channel="whatsapp",
    )
    factories.VariableValueFactory.create(conversation=conversation)
    request = deletion_of(chatbot, "42")

    drain()

    conversation.refresh_from_db()
    assert str(conversation) == "Deleted conversation"
    assert conversation.deletion_request_id == request.pk
    assert conversation.started_at == datetime(2026, 11, 1, tzinfo=UTC)
    kept = (
        conversation.channel,
        conversation.has_push,
        conversation.has_agent_handover,
        conversation.has_file_upload,
    )
    assert kept == ("whatsapp", True, True, True)
    assert (str(conversation.score), conversation.csat_score, conversation.csat_vote) == ("7.5", 4, "positive")
    gone = (
        "external_id",
        "language",
        "user_name",
        "csat_comment",
        "last_message_at",
        "message_count",
        "uci_variable",
    )
    assert [getattr(conversation, field) for field in gone] == [None] * 7
    for model in (Message, Identity, VariableValue, NameWord, UploadedFile):
        assert not model.objects.exists()


def test_a_deletion_completes_with_counts_and_changes_no_other_chatter(chatbot, neighbour, drain) -> None:
    conversation_of(chatbot, "42", messages=3)
    factories.VariableValueFactory.create(conversation=conversation_of(chatbot, "42", messages=1))
    shared = conversation_of(chatbot, "42", "43", messages=1)
    others = [conversation_of(chatbot, "43", user_name="Bob"), conversation_of(neighbour, "42", user_name="Ada")]
    of_others = {"pk__in": [one.pk for one in others]}
    before = list(Conversation.objects.filter(**of_others).order_by("pk").values())
    request = deletion_of(chatbot, "42")

    drain()

    assert list(Conversation.objects.filter(**of_others).order_by("pk").values()) == before
    assert Message.objects.filter(conversation__in=others).count() == 4
    assert Identity.objects.count() == 2
    assert set(NameWord.objects.values_list("conversation", "word")) == {(others[0].pk, "bob"), (others[1].pk, "ada")}
    request.refresh_from_db()
    shared.refresh_from_db()
    assert shared.deleted_at
    assert (request.status, request.result, request.uci_value) == (Status.COMPLETED, "done", None)
    assert (request.conversations_total, request.conversations, request.messages) == (3, 3, 5)
    assert (request.identities, request.variable_values, request.shared_conversations) == (4, 1, 1)
    assert request.claim is None
    assert request.started_at <= request.cutoff_at <= request.completed_at
    events = ChangeLogEntry.objects.filter(request_id=request.pk).order_by("pk").values_list("event", flat=True)
    assert list(events) == ["request.started", "request.completed"]


def test_an_oversized_one_is_erased_in_chunks_with_right_counts(chatbot, drain, monkeypatch) -> None:
    monkeypatch.setattr(rows, "CHUNK_MESSAGES", 10)
    monkeypatch.setattr(rows, "CHUNK_CONVERSATIONS", 2)
    for messages in (35, 4, 9, 4, 0):
        conversation_of(chatbot, "42", messages=messages)
    request = deletion_of(chatbot, "42")
    chunks: list[Counts] = []
    erase_chunk = rows.erase_chunk

    def and_note(request_ids: Sequence[UUID], **options: bool) -> dict[UUID, Counts]:
        counts = erase_chunk(request_ids, **options)
        chunks.extend(counts.values())
        return counts

    monkeypatch.setattr(rows, "erase_chunk", and_note)

    drain()

    request.refresh_from_db()
    assert (request.status, request.conversations, request.messages) == (Status.COMPLETED, 5, 52)
    found = [(chunk["conversations"], chunk["messages"]) for chunk in chunks]
    assert found == [(0, 10), (0, 10), (0, 10), (1, 5), (1, 4), (1, 9), (2, 4)]
    assert not Message.objects.exists()


def test_a_worker_out_of_time_requeues_and_the_next_one_continues(chatbot, storage, monkeypatch) -> None:
    monkeypatch.setattr(rows, "CHUNK_MESSAGES", 10)
    monkeypatch.setattr(worker, "TURN_SECONDS", 0)
    conversation_of(chatbot, "42", messages=25)
    request = deletion_of(chatbot, "42")

    worker.drain(seconds=60)

    request.refresh_from_db()
    assert (request.status, request.messages, request.attempts) == (Status.COMPLETED, 25, 0)
    log = list(ChangeLogEntry.objects.filter(request_id=request.pk).order_by("pk").values_list("event", "data"))
    assert ("request.requeued", {"code": "turn_over", "attempts": 0}) in log
    assert [event for event, _ in log].count("request.completed") == 1


def test_no_look_is_left_without_its_value(chatbot: Chatbot) -> None:
    conversation_of(chatbot, "42")
    with role("owner"), pytest.raises(IntegrityError, match="identity_look_goes_with_value"), transaction.atomic():
        Identity.objects.update(value=None)


def test_a_conversation_after_the_cutoff_is_kept(chatbot, drain, monkeypatch) -> None:
    """The conversation arrives between the mark and the verification."""
    conversation_of(chatbot, "42")
    request = deletion_of(chatbot, "42")

    @role("owner")
    def new_data_arrives(erased: Any) -> None:
        conversation_of(chatbot, "42", text="a new beginning", started_at=timezone.now())

    before(monkeypatch, journal, "conclude", new_data_arrives)
    drain()

    request.refresh_from_db()
    assert request.status == Status.COMPLETED
    assert Message.objects.filter(text="a new beginning").count() == 2


@pytest.mark.parametrize("chunk", [1, 2500], ids=["mark by itself", "mark and erase"])
def test_a_conversation_keeps_its_first_mark(chatbot, drain, monkeypatch, chunk) -> None:
    monkeypatch.setattr(rows, "CHUNK_CONVERSATIONS", chunk)
    first = uuid4()
    marked = conversation_of(chatbot, "42", deletion_request_id=first)
    conversation_of(chatbot, "42")
    deletion = deletion_of(chatbot, "42")
    drain()

    marked.refresh_from_db()
    assert (marked.deletion_request_id, marked.deleted_at is None) == (first, False)
    deletion.refresh_from_db()
    assert (deletion.status, deletion.conversations) == ("completed", 2)


def test_a_deletion_over_the_limit_is_held_before_anything_is_changed(chatbot: Chatbot, drain: Drain) -> None:
    chatbot.max_conversations_per_deletion = 2
    chatbot.save()
    for value in ("42", "42", "42", "43", "43"):
        conversation_of(chatbot, value)
    request, at_the_limit = deletion_of(chatbot, "42"), deletion_of(chatbot, "43")

    drain()

    request.refresh_from_db()
    assert (request.status, request.hold_reason) == (Status.ON_HOLD, Hold.TOO_MANY_CONVERSATIONS)
    assert not Conversation.objects.filter(deletion_request_id=request.pk).exists()
    at_the_limit.refresh_from_db()
    assert at_the_limit.status == Status.COMPLETED

    decisions.approve(request_id=request.pk, actor="command")
    drain()

    request.refresh_from_db()
    assert (request.status, request.conversations, request.approved_by) == (Status.COMPLETED, 3, "command")
