"""Create the chatbot of the canary, and the keys with which it calls."""

from typing import Any

from django.core.exceptions import ValidationError
from django.db import transaction

from chatbots.models import ApiKey, Chatbot, Variable
from chatbots.operations.chatbots import NewVariable, create_chatbot
from chatbots.operations.keys import create_api_key, revoke_api_key
from common.crypto import encrypt
from compliance.canary.words import NOTE, PLAN, UCI
from compliance.models import Canary
from compliance.models.canary import canary_token_binding

Category, Scope = Variable.Category, ApiKey.Scope

_LABEL = "canary"
_VARIABLES = (
    NewVariable(Category.CUSTOM, UCI),
    NewVariable(Category.CUSTOM, NOTE),
    NewVariable(Category.USER_CHANNEL, PLAN),
)
# What a client's backend has. It cannot approve: a held deletion is to be noticed.
_SCOPES = (Scope.CONVERSATIONS_WRITE, Scope.CONVERSATIONS_READ, Scope.REQUESTS_READ, Scope.DELETIONS_WRITE)
# Turns make some dozens of calls, whatever the limit of others is.
_CALLS_PER_MINUTE = 600


def set_up(*, slug: str, actor: str) -> Canary:
    """Create the chatbot with its variables, hosted bucket and extracts, and its keys. Raises ValidationError.

    Always a new chatbot: a client's would be billed for what the canary sends.
    """
    if Canary.objects.exists():
        raise ValidationError("There is a canary already. New keys are made by --new-keys.")
    with transaction.atomic():
        chatbot = create_chatbot(
            slug=slug,
            name="Canary",
            actor=actor,
            variables=_VARIABLES,
            uci=UCI,
            enable_compliance=True,
            hosted_bucket=True,
            enable_extracts=True,
        )
        return Canary.objects.create(chatbot=chatbot, token_encrypted=_new_keys(chatbot, actor))


def renew_keys(*, actor: str) -> Canary:
    """Replace the canary's keys, and revoke the former ones. Raises ValidationError."""
    with transaction.atomic():
        canary = Canary.objects.select_for_update(of=["self"]).select_related("chatbot").first()
        if canary is None:
            raise ValidationError("There is no canary. Create it first.")
        former = ApiKey.objects.filter(chatbot=canary.chatbot, label=_LABEL, revoked_at=None)
        for prefix in list(former.values_list("prefix", flat=True)):
            revoke_api_key(prefix=prefix, actor=actor, chatbot=canary.chatbot)
        canary.token_encrypted = _new_keys(canary.chatbot, actor)
        canary.save(update_fields=["token_encrypted"])
    return canary


def _new_keys(chatbot: Chatbot, actor: str) -> str:
    """Create a signing key, which is read from its own row, and a token; return that one, encrypted."""
    of_both: Any = {"chatbot": chatbot, "label": _LABEL, "actor": actor, "rate_limit": _CALLS_PER_MINUTE}
    create_api_key(type=ApiKey.Type.SIGNING, **of_both)
    made = create_api_key(type=ApiKey.Type.TOKEN, scopes=_SCOPES, **of_both)
    return encrypt(made.secret or "", bound_to=canary_token_binding(chatbot.pk))
