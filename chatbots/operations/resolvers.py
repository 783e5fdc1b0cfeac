"""A chatbot's resolver: the address at which workers look up chatters, and the variables that they send."""

import re
from collections.abc import Sequence

from django.core.exceptions import ValidationError
from django.db import transaction

from chatbots import changelog, locks
from chatbots.callback_secrets import can_sign
from chatbots.callback_urls import checked_url
from chatbots.models import DEFAULT_POINTER, MOST_VARIABLES, POINTER, Chatbot, Resolver, Variable

Category = Variable.Category
OffReason = Resolver.OffReason

_CANNOT_SIGN = (
    "Look-ups must be signed, and this chatbot has nothing to sign with. Create a callback secret first: in the "
    "console, or with create_callback_secret."
)
_UCI_NOT_CUSTOM = "A resolver needs a custom variable as the UCI. Designate one first."
_POINTER_ADVICE = (
    "Use a JSON Pointer of at most 200 characters, such as /value or /data/member_id; ~1 for a slash in a name."
)


def set_resolver(
    *,
    chatbot: Chatbot,
    url: str,
    send: Sequence[str],
    actor: str,
    session_token: str | None = None,
    pointer: str = DEFAULT_POINTER,
) -> Resolver:
    """Set or replace the chatbot's resolver. This also turns a stopped one on again.

    `send` are names of variables, `session_token` one of them. Resolves the host of the URL, so do not call it in a
    transaction. Raises ValidationError.
    """
    checked = checked_url(url, field="url")
    if len(pointer) > 200 or not re.fullmatch(POINTER, pointer) or not pointer.isprintable():
        raise ValidationError({"pointer": _POINTER_ADVICE})
    names = list(dict.fromkeys(send))
    if not 1 <= len(names) <= MOST_VARIABLES:
        raise ValidationError({"send": f"Name 1 to {MOST_VARIABLES} variables to send."})
    with transaction.atomic():
        # The same lock as for a designation of the UCI, which stops the resolver.
        locks.lock(chatbot.pk)
        if not can_sign(chatbot):
            raise ValidationError(_CANNOT_SIGN)
        variables = {variable.name: variable for variable in Variable.objects.filter(chatbot=chatbot)}
        uci = next((variable for variable in variables.values() if variable.is_uci), None)
        if uci is None or uci.category != Category.CUSTOM:
            raise ValidationError(_UCI_NOT_CUSTOM)
        if errors := [error for name in names if (error := _refused(name, variables.get(name)))]:
            raise ValidationError({"send": errors})
        token = variables[session_token] if session_token in names else None
        if session_token is not None and (token is None or token.category != Category.USER_CHANNEL):
            raise ValidationError({"session_token": "Choose a user-channel variable that is sent."})
        resolver, _ = Resolver.objects.update_or_create(
            chatbot=chatbot,
            defaults={
                "url": checked,
                "variable_ids": [variables[name].pk for name in names],
                "session_token": token,
                "pointer": pointer,
                "off_reason": "",
                "failing_since": None,
                "last_error": "",
                "last_error_at": None,
            },
        )
        # Without the address, whose path may be a secret.
        data = {"variables": ", ".join(names), "session_token": session_token}
        changelog.record("resolver.set", chatbot_id=chatbot.pk, actor=actor, data=data)
    return resolver


def remove_resolver(*, chatbot: Chatbot, actor: str) -> None:
    """Remove the chatbot's resolver, if there is one. Its address is not called any more."""
    with transaction.atomic():
        locks.lock(chatbot.pk)
        if Resolver.objects.filter(chatbot=chatbot).delete()[0]:
            changelog.record("resolver.removed", chatbot_id=chatbot.pk, actor=actor)


def stop(*, chatbot: Chatbot, uci: Variable, actor: str) -> None:
    """Turn the resolver off since `uci` has become the UCI. Call it in a transaction that has locked the chatbot."""
    reason = OffReason.UCI_CHANGED if uci.category == Category.CUSTOM else OffReason.UCI_NOT_CUSTOM
    if Resolver.objects.filter(chatbot=chatbot).exclude(off_reason=reason).update(off_reason=reason):
        changelog.record("resolver.stopped", chatbot_id=chatbot.pk, actor=actor, data={"reason": str(reason)})


def _refused(name: str, variable: Variable | None) -> str | None:
    if variable is None:
        return f"This chatbot has no variable {name!r}. Declare it first."
    if variable.is_uci or variable.was_uci:
        return f"{name!r} is or was the UCI, whose values are not sent."
    if variable.category == Category.SYSTEM:
        return f"{name!r} is a system variable. Send custom or user-channel ones."
    return None
