"""Signing keys and tokens, the secrets that sign callbacks, and functions for all keys."""

import base64
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models.functions import Now
from django.utils.timezone import now
from uuid_utils.compat import uuid7

from chatbots import changelog, locks
from chatbots.authentication import secret_binding, token_digest
from chatbots.callback_secrets import PREFIX, callback_secret_binding
from chatbots.models import ApiKey, CallbackSecret, Chatbot
from common.crypto import encrypt

Scope = ApiKey.Scope

# A signature covers no path, so it serves only the calls that these two scopes allow.
SIGNING_SCOPES = (Scope.DELETIONS_WRITE, Scope.EXPORTS_WRITE)


# Callbacks are retried for a day, and receivers need time to switch to the new secret.
OVERLAP_HOURS = 48
LONGEST_OVERLAP_HOURS = 720


@dataclass(frozen=True)
class NewApiKey:
    """A new key. `secret` can be shown only now: it is stored encrypted or as a digest.

    It is None for a signing key that took over an existing secret, and for a client's public key.
    """

    api_key: ApiKey
    secret: str | None


@dataclass(frozen=True)
class NewCallbackSecret:
    """A new secret. It can be shown only now: it is stored encrypted."""

    secret: str
    overlap_hours: int


def create_api_key(
    *,
    chatbot: Chatbot,
    type: ApiKey.Type,  # noqa: A002  the field's name
    label: str,
    actor: str,
    scopes: Sequence[str] = (),
    expires_at: datetime | None = None,
    rate_limit: int | None = None,
    taken_over_secret: str | None = None,
) -> NewApiKey:
    """Create a signing key or token and return it with its secret, which cannot be shown again.

    Raises ValidationError; identity keys have an operation of their own. A signing key has both of SIGNING_SCOPES by
    default; a token needs at least one scope. `rate_limit` is in calls a minute; None is the current limit of the
    settings. `taken_over_secret` is for clients that already sign: it becomes the signing key's secret.
    """
    if type == ApiKey.Type.IDENTITY:
        raise ValueError("See create_identity_key.")
    api_key = ApiKey(
        chatbot=chatbot,
        type=type,
        label=label,
        prefix=new_prefix(),
        scopes=_checked_scopes(type, scopes),
        expires_at=expires_at,
        rate_limit=rate_limit,
    )
    secret = _assign_secret(api_key, taken_over_secret)
    check_key(api_key)
    _check_rate_limit(api_key)
    store_key(api_key, actor=actor)
    return NewApiKey(api_key, None if taken_over_secret else secret)


def new_prefix() -> str:
    return secrets.token_hex(6)


def check_key(api_key: ApiKey) -> None:
    """Raise ValidationError for fields that a new key may not have."""
    api_key.clean_fields(exclude=["chatbot"])
    if api_key.expires_at is not None and api_key.expires_at <= now():
        raise ValidationError({"expires_at": "This is in the past. Use a future time, or none."})


def store_key(api_key: ApiKey, *, actor: str) -> None:
    with transaction.atomic():
        api_key.save(force_insert=True)
        data = {"prefix": api_key.prefix, "type": str(api_key.type)}
        changelog.record("apikey.created", chatbot_id=api_key.chatbot_id, actor=actor, data=data)


def revoke_api_key(*, prefix: str, actor: str, chatbot: Chatbot | None = None) -> ApiKey:
    """Revoke a key for good. With `chatbot`, only a key of this chatbot. Raises ValidationError."""
    with transaction.atomic():
        api_key = _active_key(prefix, chatbot)
        api_key.revoked_at = now()
        api_key.save(update_fields=["revoked_at"])
        changelog.record("apikey.revoked", chatbot_id=api_key.chatbot_id, actor=actor, data={"prefix": prefix})
    return api_key


def change_api_key_rate_limit(*, chatbot: Chatbot, prefix: str, rate_limit: int | None, actor: str) -> ApiKey:
    """Set the calls a minute of a key, from its next call on; None is the current limit of the settings.

    An unchanged limit makes no change-log entry. Raises ValidationError.
    """
    with transaction.atomic():
        api_key = _active_key(prefix, chatbot)
        if api_key.type == ApiKey.Type.IDENTITY:
            raise ValidationError({"rate_limit": "An identity key makes no calls, so it has no rate limit."})
        if api_key.rate_limit == rate_limit:
            return api_key
        api_key.rate_limit = rate_limit
        api_key.clean_fields(exclude=["chatbot"])
        _check_rate_limit(api_key)
        api_key.save(update_fields=["rate_limit"])
        data = {"prefix": prefix, "rate_limit": rate_limit}
        changelog.record("apikey.changed", chatbot_id=chatbot.pk, actor=actor, data=data)
    return api_key


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
        # One at a time: two secrets would have the same predecessor.
        locks.lock(chatbot.pk)
        earlier = list(CallbackSecret.objects.filter(chatbot=chatbot).order_by("-created_at", "-pk"))
        if len(earlier) > 1:
            CallbackSecret.objects.filter(pk__in=[old.pk for old in earlier[1:]]).delete()
            CallbackSecret.objects.filter(pk=earlier[0].pk).update(previous_until=None)
        CallbackSecret.objects.create(
            id=secret_id,
            chatbot=chatbot,
            secret_encrypted=encrypt(secret, bound_to=callback_secret_binding(secret_id)),
            previous_until=Now() + timedelta(hours=overlap_hours) if overlap_hours else None,
        )
        data = {"overlap_hours": overlap_hours}
        changelog.record("callback_secret.created", chatbot_id=chatbot.pk, actor=actor, data=data)
    return NewCallbackSecret(secret, overlap_hours)


def _active_key(prefix: str, chatbot: Chatbot | None) -> ApiKey:
    """Return the key, locked. Raises ValidationError if it does not exist or is revoked."""
    found = ApiKey.objects.select_for_update().filter(prefix=prefix)
    api_key = (found if chatbot is None else found.filter(chatbot=chatbot)).first()
    if api_key is None:
        raise ValidationError({"prefix": "There is no key with this prefix."})
    if api_key.revoked_at is not None:
        raise ValidationError({"prefix": "This key is already revoked."})
    return api_key


def _check_rate_limit(api_key: ApiKey) -> None:
    """Attribute a violated constraint to its field: fields and secret were checked, so it is the rate limit."""
    if api_key.rate_limit is None:  # always allowed; this saves three queries for each constraint
        return
    try:
        api_key.validate_constraints(exclude=["chatbot", "prefix"])
    except ValidationError as error:
        raise ValidationError({"rate_limit": error.messages}) from None


def _checked_scopes(key_type: ApiKey.Type, scopes: Sequence[str]) -> list[str]:
    offered = [scope.value for scope in (SIGNING_SCOPES if key_type == ApiKey.Type.SIGNING else Scope)]
    if not scopes and key_type == ApiKey.Type.SIGNING:
        return offered
    if not scopes or not set(scopes) <= set(offered):
        message = f"Give a {key_type.value} key at least one of, and only: {', '.join(offered)}."
        raise ValidationError({"scopes": message})
    return [scope for scope in offered if scope in scopes]


def _assign_secret(api_key: ApiKey, given_secret: str | None) -> str:
    """Set the secret of the key in the form of its type, and return the secret."""
    if api_key.type == ApiKey.Type.TOKEN:
        if given_secret is not None:
            raise ValidationError({"secret": "Only a signing key can take over a secret."})
        token = f"dca_{api_key.prefix}_{secrets.token_hex(32)}"
        api_key.secret_sha256 = token_digest(token)
        return token
    secret = secrets.token_urlsafe(32) if given_secret is None else given_secret
    if not 8 <= len(secret) <= 512 or not secret.isprintable():
        raise ValidationError({"secret": "The secret must have 8 to 512 printable characters."})
    api_key.secret_encrypted = encrypt(secret, bound_to=secret_binding(api_key.prefix))
    return secret
