"""Conversations of an age, and the retention runs of a chatbot."""

from datetime import datetime, timedelta
from typing import Any

from django.utils import timezone

from chatbots.models import Chatbot
from compliance.models import ComplianceRequest, RetentionRun
from compliance.retention import policy
from conversations.models import Conversation
from tests import factories


def ago(days: float) -> datetime:
    return timezone.now() - timedelta(days=days)


def conversation_aged(chatbot: Chatbot, days: float, value: str = "42", **fields: Any) -> Conversation:
    """A conversation of a chatter with two messages, the last one so many days old."""
    at = ago(days)
    return factories.conversation_of(chatbot, value, **({"started_at": at, "last_message_at": at} | fields))


def keep_for(chatbot: Chatbot, days: int | None) -> None:
    """Set the period as if its first run were long over."""
    Chatbot.objects.filter(pk=chatbot.pk).update(retention_days=days)
    chatbot.refresh_from_db()


def file_run(chatbot: Chatbot, days: int = 90) -> ComplianceRequest:
    """File today's run of a chatbot with this period."""
    keep_for(chatbot, days)
    request = policy.file_run(chatbot, actor="command")
    assert request is not None
    return request


def run_of(request: ComplianceRequest) -> RetentionRun:
    return RetentionRun.objects.get(request=request)


def deleted(*conversations: Conversation) -> list[bool]:
    rows = Conversation.objects.in_bulk([one.pk for one in conversations])
    return [rows[one.pk].deleted_at is not None for one in conversations]
