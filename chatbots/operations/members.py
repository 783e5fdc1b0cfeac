"""Who of the staff may do what with a chatbot."""

from django.contrib.auth.models import User
from django.db import transaction

from chatbots import changelog
from chatbots.models import Chatbot, Membership


def set_role(*, chatbot: Chatbot, user: User, role: Membership.Role | None, actor: str) -> None:
    """Give a staff user a role in a chatbot, in place of the one they have; None takes it away."""
    with transaction.atomic():
        if role is None:
            Membership.objects.filter(chatbot=chatbot, user=user).delete()
            changelog.record("membership.removed", chatbot_id=chatbot.pk, actor=actor, data={"user": user.pk})
        else:
            Membership.objects.update_or_create(chatbot=chatbot, user=user, defaults={"role": role})
            changelog.record(
                "membership.set",
                chatbot_id=chatbot.pk,
                actor=actor,
                data={"user": user.pk, "role": role.value},
            )
