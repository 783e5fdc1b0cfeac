"""Reads the active identity keys of tokens."""

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from django.db import transaction
from django.db.models import Q, QuerySet
from django.db.models.functions import Now
from django.utils.timezone import now

from chatbots.authentication import LAST_USED_EVERY, active_keys, secret_binding
from chatbots.identity_tokens import IdentityKey
from chatbots.models import ApiKey, Chatbot
from common.crypto import decrypt

# Any other `kid` of a token is no prefix of ours, and may be a text that the database refuses.
_KID = re.compile(r"[0-9a-f]{12}")


@dataclass(frozen=True)
class IdentityKeys:
    """Keys by `kid`, the database's time at which they were active, and those whose use must be recorded."""

    by_kid: Mapping[str, IdentityKey]
    at: datetime
    unnoted: frozenset[str]


def read_identity_keys(chatbot: Chatbot, kids: Collection[str]) -> IdentityKeys:
    """Return the active keys of the chatbot with these kids, in one statement.

    Raises SecretUnreadable if ENCRYPTION_KEYS cannot decrypt one.
    """
    records = list(_active(chatbot, filter(_KID.fullmatch, kids)).annotate(read_at=Now()))
    at = records[0].read_at if records else now()
    unnoted = {one.prefix for one in records if one.last_used_at is None or one.last_used_at < at - LAST_USED_EVERY}
    return IdentityKeys({one.prefix: _key_of(one) for one in records}, at, frozenset(unnoted))


def record_use(chatbot: Chatbot, kids: Collection[str]) -> None:
    """Update last_used_at of these keys if it is a minute old. Does not wait for other calls that do the same."""
    due = Q(last_used_at__isnull=True) | Q(last_used_at__lt=Now() - LAST_USED_EVERY)
    found = _active(chatbot, kids).filter(due).select_for_update(skip_locked=True, of=("self",))
    with transaction.atomic():
        ApiKey.objects.filter(pk__in=found.values("pk")).update(last_used_at=Now())


def _active(chatbot: Chatbot, kids: Iterable[str]) -> QuerySet[ApiKey]:
    return active_keys(ApiKey.Type.IDENTITY).filter(chatbot=chatbot, prefix__in=list(kids))


def _key_of(record: ApiKey) -> IdentityKey:
    algorithm = ApiKey.Algorithm(record.algorithm)
    if algorithm != ApiKey.Algorithm.HS256:
        return IdentityKey.build(algorithm, record.public_key)
    return IdentityKey.build(algorithm, decrypt(record.secret_encrypted, bound_to=secret_binding(record.prefix)))
