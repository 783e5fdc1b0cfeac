"""Roles of staff in chatbots."""

from collections.abc import Mapping

from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from django.db import transaction

from chatbots import changelog
from chatbots.models import Chatbot, Membership

Role = Membership.Role


def set_role(*, chatbot: Chatbot, user: User, role: Membership.Role | None, actor: str) -> None:
    """Set the role of a staff user in a chatbot; None removes it. An unchanged role makes no change-log entry.

    Raises ValidationError for a user who cannot log in to the console.
    """
    if role is not None and not (user.is_staff and user.is_active):
        raise ValidationError({"user": "Only active staff can have a role. Make this user staff first."})
    with transaction.atomic():
        known = Membership.objects.select_for_update().filter(chatbot=chatbot, user=user).first()
        if role is None:
            if known is not None:
                known.delete()
                changelog.record("membership.removed", chatbot_id=chatbot.pk, actor=actor, data={"user": user.pk})
        elif known is None or known.role != role:
            Membership.objects.update_or_create(chatbot=chatbot, user=user, defaults={"role": role})
            changelog.record(
                "membership.set",
                chatbot_id=chatbot.pk,
                actor=actor,
                data={"user": user.pk, "role": role.value},
            )


def set_mails(*, user: User, wanted: Mapping[int, bool], actor: str) -> None:
    """Set which chatbots an officer gets mails about, by chatbot id; chatbots with another role are skipped.

    Unchanged choices make no change-log entry.
    """
    with transaction.atomic():
        known = Membership.objects.select_for_update().filter(user=user, role=Role.OFFICER, chatbot__in=wanted)
        for membership in known.order_by("pk"):
            if membership.mails != wanted[membership.chatbot_id]:
                membership.mails = wanted[membership.chatbot_id]
                membership.save(update_fields=["mails"])
                changelog.record(
                    "membership.mails_set",
                    chatbot_id=membership.chatbot_id,
                    actor=actor,
                    data={"user": user.pk, "wanted": membership.mails},
                )
