"""Secrets at rest and keyed digests.

Encryption is AES-256-GCM under `ENCRYPTION_KEYS` (a ring, newest first), bound to the row and field it belongs
to, so a ciphertext moved elsewhere does not open. Digests are HMAC-SHA256 under `DIGEST_KEY`, which never
rotates: they find an erased conversation or chatter again without its value.
"""

import base64
import hmac
import os
from typing import Literal, overload
from uuid import UUID

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from django.conf import settings

_FORMAT = "v1"
_NONCE_BYTES = 12

OfClients = Literal["conversation", "chatter", "replay", "body"]
OfStaff = Literal["login", "authenticator", "recovery_code"]

_FINGERPRINT = b"fingerprint of DIGEST_KEY"


class SecretUnreadable(Exception):
    """A stored secret does not open: its key left the ring, or it was moved or damaged."""


def encrypt(plaintext: str, *, bound_to: str) -> str:
    """Encrypt under the newest key. `bound_to` names row and field, e.g. `apikey:3f9a:secret`; it is not stored."""
    key_id, key = next(iter(settings.ENCRYPTION_KEYS.items()))
    nonce = os.urandom(_NONCE_BYTES)
    sealed = AESGCM(key).encrypt(nonce, plaintext.encode(), bound_to.encode())
    return f"{_FORMAT}:{key_id}:{base64.urlsafe_b64encode(nonce + sealed).decode()}"


def decrypt(stored: str, *, bound_to: str) -> str:
    """Undo `encrypt`. Raises SecretUnreadable."""
    try:
        version, key_id, encoded = stored.split(":")
        sealed = base64.urlsafe_b64decode(encoded)
        if version != _FORMAT:
            raise ValueError
        opened = AESGCM(settings.ENCRYPTION_KEYS[key_id]).decrypt(
            sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], bound_to.encode()
        )
    except (ValueError, KeyError, InvalidTag):
        raise SecretUnreadable(f"The secret of {bound_to} does not open with the keys in ENCRYPTION_KEYS.") from None
    return opened.decode()


@overload
def digest(purpose: OfClients, scope: UUID, value: str | bytes) -> bytes: ...
@overload
def digest(purpose: OfStaff, scope: int, value: str | bytes) -> bytes: ...
def digest(purpose: OfClients | OfStaff, scope: UUID | int, value: str | bytes) -> bytes:
    """Return the 32-byte keyed digest of `value`.

    `scope` is that under which the value has its meaning: the chatbot's public id for a conversation's id or a call,
    the variable's for a UCI value, the user's number for what proves who they are. Equal values in different scopes
    have unrelated digests.
    """
    data = value if isinstance(value, bytes) else value.encode()
    return hmac.digest(settings.DIGEST_KEY, f"{purpose}:{scope}:".encode() + data, "sha256")


def fingerprint() -> bytes:
    """Return 32 bytes that only this `DIGEST_KEY` gives, and that are no digest of any value."""
    return hmac.digest(settings.DIGEST_KEY, _FINGERPRINT, "sha256")
