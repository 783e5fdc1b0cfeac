"""Deletions held before anything is changed: over the conversation limit, or for four eyes."""

import pytest
from django.utils import timezone

from chatbots.models import Chatbot
from compliance.errors import Refused
from compliance.models import ComplianceRequest
from compliance.requests import decisions
from conversations.models import Conversation
from tests.compliance.conftest import Drain
from tests.factories import conversation_of, deletion_of, export_of

Status = ComplianceRequest.Status
Hold = ComplianceRequest.HoldReason


def test_a_deletion_over_the_limit_is_held_before_anything_is_changed(chatbot: Chatbot, drain: Drain) -> None:
    chatbot.max_conversations_per_deletion = 2
    chatbot.save()
    for _ in range(3):
        conversation_of(chatbot, "42")
    request = deletion_of(chatbot, "42")

    drain()

    request.refresh_from_db()
    assert (request.status, request.hold_reason) == (Status.ON_HOLD, Hold.TOO_MANY_CONVERSATIONS)
    assert not Conversation.objects.filter(deletion_request_id__isnull=False).exists()

    decisions.approve(request_id=request.pk, actor="command")
    drain()

    request.refresh_from_db()
    assert (request.status, request.conversations, request.approved_by) == (Status.COMPLETED, 3, "command")


def test_a_deletion_at_exactly_the_limit_is_not_held(chatbot: Chatbot, drain: Drain) -> None:
    chatbot.max_conversations_per_deletion = 2
    chatbot.save()
    for _ in range(2):
        conversation_of(chatbot, "42")
    request = deletion_of(chatbot, "42")

    drain()

    request.refresh_from_db()
    assert request.status == Status.COMPLETED


def test_an_approval_covers_only_the_reason_it_was_asked_for(chatbot: Chatbot, drain: Drain) -> None:
    chatbot.max_conversations_per_deletion = 1
    chatbot.save()
    for _ in range(2):
        conversation_of(chatbot, "42")
    export_of(chatbot, "42", status=Status.FAILED, failed_at=timezone.now(), error_code="storage_locked")
    request = deletion_of(chatbot, "42")
    drain()
    decisions.approve(request_id=request.pk, actor="command")

    drain()

    request.refresh_from_db()
    assert (request.status, request.hold_reason) == (Status.ON_HOLD, Hold.TOO_MANY_CONVERSATIONS)


def test_with_four_eyes_each_deletion_is_held_and_whoever_filed_it_cannot_approve(
    chatbot: Chatbot, drain: Drain
) -> None:
    chatbot.four_eyes = True
    chatbot.save()
    request = deletion_of(chatbot, "42", filed_by="user:1")
    drain()
    request.refresh_from_db()
    assert (request.status, request.hold_reason) == (Status.ON_HOLD, Hold.AWAITING_APPROVAL)

    with pytest.raises(Refused) as refused:
        decisions.approve(request_id=request.pk, actor="user:1")
    assert refused.value.code == "own_request"

    decisions.approve(request_id=request.pk, actor="user:2")
    drain()
    request.refresh_from_db()
    assert request.status == Status.COMPLETED
