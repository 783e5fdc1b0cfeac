"""Secrets that sign callbacks."""

import base64
import secrets
from dataclasses import dataclass
from datetime import timedelta

from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models.functions import Now
from uuid_utils.compat import uuid7

from chatbots import changelog
from chatbots.callback_secrets import PREFIX, secret_binding
from chatbots.models import CallbackSecret, Chatbot
from common.crypto import encrypt

# Callbacks are retried for a day, and receivers need time to switch to the new secret.
OVERLAP_HOURS = 48
LONGEST_OVERLAP_HOURS = 720


@dataclass(frozen=True)
class NewCallbackSecret:
    """A new secret. It can be shown only now: it is stored encrypted."""

    secret: str
    overlap_hours: int


def create_callback_secret(*, chatbot: Chatbot, actor: str, overlap_hours: int = OVERLAP_HOURS) -> NewCallbackSecret:
    """Create the secret that signs the chatbot's callbacks from now on, and return it; it cannot be shown again.

    Its predecessor, the last secret or the newest signing key, signs as well for `overlap_hours`. Raises
    ValidationError.
    """
    if not 0 <= overlap_hours <= LONGEST_OVERLAP_HOURS:
        raise ValidationError({"overlap_hours": f"Use a number of hours from 0 to {LONGEST_OVERLAP_HOURS}."})
    secret = PREFIX + base64.b64encode(secrets.token_bytes(32)).decode()
    secret_id = uuid7()
    with transaction.atomic():
        # One at a time: two would have the same predecessor.
        Chatbot.objects.select_for_update(no_key=True).get(pk=chatbot.pk)
        earlier = list(CallbackSecret.objects.filter(chatbot=chatbot).order_by("-created_at", "-pk"))
        if len(earlier) > 1:
            CallbackSecret.objects.filter(pk__in=[old.pk for old in earlier[1:]]).delete()
            CallbackSecret.objects.filter(pk=earlier[0].pk).update(previous_until=None)
        CallbackSecret.objects.create(
            id=secret_id,
            chatbot=chatbot,
            secret_encrypted=encrypt(secret, bound_to=secret_binding(secret_id)),
            previous_until=Now() + timedelta(hours=overlap_hours) if overlap_hours else None,
        )
        changelog.record(
            "callback_secret.created",
            chatbot_id=chatbot.pk,
            actor=actor,
            data={"overlap_hours": overlap_hours},
        )
    return NewCallbackSecret(secret, overlap_hours)
