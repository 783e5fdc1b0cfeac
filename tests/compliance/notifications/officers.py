"""Officers who get mails, and requests about which they get them."""

from datetime import timedelta
from typing import Any

from django.contrib.auth.models import User
from django.utils import timezone

from chatbots.models import Chatbot, Membership
from compliance.models import ComplianceRequest, Mailbox
from tests.factories import deletion_of, export_of

Role = Membership.Role

VALUE = "jane.doe@example.org"
DAY = timedelta(days=1)


def member(chatbot: Chatbot, name: str, role: Role = Role.OFFICER, **fields: Any) -> User:
    user, _ = User.objects.get_or_create(
        username=name, defaults={"email": f"{name}@example.com", "is_staff": True} | fields
    )
    Membership.objects.create(chatbot=chatbot, user=user, role=role)
    return user


def failed(chatbot: Chatbot, **fields: Any) -> ComplianceRequest:
    given = {"status": "failed", "failed_at": timezone.now(), "error_code": "storage_unavailable"} | fields
    return export_of(chatbot, VALUE, **given)


def held(chatbot: Chatbot, **fields: Any) -> ComplianceRequest:
    given = {"status": "on_hold", "held_at": timezone.now(), "hold_reason": "too_many_conversations"} | fields
    return deletion_of(chatbot, VALUE, **given)


def an_hour_passes() -> None:
    Mailbox.objects.update(next_attempt_at=timezone.now())
