"""Signatures of callbacks, by the chatbot's callback secret as defined by https://www.standardwebhooks.com.

The secret signs nothing else, and the signed content begins with the message's id, so a captured call cannot be
replayed in the other direction. Without such a secret the newest signing key signs, in the same way as the client's
own calls.
"""

import base64
import hmac
from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from uuid import UUID

from django.db.models import BooleanField, ExpressionWrapper, Q
from django.db.models.functions import Now

from chatbots.authentication import SIGNATURE_HEADER, SigningKey, has_signing_key, newest_signing_keys, sign
from chatbots.models import CallbackSecret, Chatbot
from common.crypto import SecretUnreadable, decrypt

ID_HEADER, TIMESTAMP_HEADER, SIGNATURES_HEADER = "webhook-id", "webhook-timestamp", "webhook-signature"
KEYS_TIMESTAMP_HEADER, KEY_HEADER = "X-Mindsay-Request-Timestamp", "X-Mindsay-Key"

PREFIX = "whsec_"


@dataclass(frozen=True)
class Signers:
    """The current signers of a chatbot's callbacks, newest first; None for a secret that cannot be decrypted.

    `key` is set only while a signing key signs too.
    """

    secrets: tuple[str | None, ...] = ()
    key: SigningKey | None = None

    @property
    def is_nothing(self) -> bool:
        return not self.secrets and self.key is None

    @property
    def is_readable(self) -> bool:
        """Return whether the newest signer, which will sign alone, can be decrypted."""
        newest = self.secrets[0] if self.secrets else self.key and self.key.secret
        return newest is not None

    def headers(self, *, message_id: UUID, timestamp: str, body: bytes) -> Mapping[str, str]:
        """Return the headers of a call sent at `timestamp` (Unix seconds)."""
        headers: dict[str, str] = {}
        secrets = [secret for secret in self.secrets if secret is not None]
        if secrets:
            signed = f"{message_id}.{timestamp}.".encode() + body
            signatures = " ".join(f"v1,{_signature(secret, signed)}" for secret in secrets)
            headers |= {ID_HEADER: str(message_id), TIMESTAMP_HEADER: timestamp, SIGNATURES_HEADER: signatures}
        if self.key and self.key.secret is not None:
            signature = sign(secret=self.key.secret, timestamp=timestamp, body=body)
            headers |= {KEYS_TIMESTAMP_HEADER: timestamp, SIGNATURE_HEADER: signature, KEY_HEADER: self.key.prefix}
        return headers


def signers_of(chatbot_ids: Collection[int]) -> dict[int, Signers]:
    overlaps = ExpressionWrapper(Q(previous_until__gt=Now()), output_field=BooleanField())
    rows = CallbackSecret.objects.filter(chatbot__in=chatbot_ids).annotate(overlaps=overlaps)
    kept = defaultdict(list)
    for row in rows.order_by("chatbot_id", "-created_at", "-pk"):
        kept[row.chatbot_id].append(row)
    keys = newest_signing_keys(chatbot_ids)
    found = {}
    for chatbot_id in chatbot_ids:
        secrets = []
        for row in kept[chatbot_id]:
            secrets.append(_secret_of(row))
            if not row.overlaps:
                found[chatbot_id] = Signers(tuple(secrets))
                break
        else:
            # Each secret overlaps with its predecessor, and the oldest one with the signing key.
            found[chatbot_id] = Signers(tuple(secrets), keys.get(chatbot_id))
    return found


def can_sign(chatbot: Chatbot) -> bool:
    return CallbackSecret.objects.filter(chatbot=chatbot).exists() or has_signing_key(chatbot)


def callback_secret_binding(secret_id: UUID) -> str:
    """Return the context to which an encrypted callback secret is bound (`common.crypto`)."""
    return f"callbacksecret:{secret_id}:secret"


def _secret_of(row: CallbackSecret) -> str | None:
    try:
        return decrypt(row.secret_encrypted, bound_to=callback_secret_binding(row.pk))
    except SecretUnreadable:
        return None


def _signature(secret: str, signed: bytes) -> str:
    key = base64.b64decode(secret.removeprefix(PREFIX))
    return base64.b64encode(hmac.digest(key, signed, "sha256")).decode()
