"""Encryption of secrets at rest, and keyed digests.

Encryption is AES-256-GCM under `ENCRYPTION_KEYS` (newest first), bound to the row and field, so that a ciphertext
moved elsewhere cannot be decrypted. `compliance.rotation` lists the fields that store one. Digests are HMAC-SHA256
under `DIGEST_KEY`, which never rotates: they identify an erased conversation or chatter without its value.
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

OfClients = Literal["conversation", "message", "csat_comment", "chatter", "replay", "body"]
OfStaff = Literal["login", "recovery_code", "staff"]

_FINGERPRINT = b"fingerprint of DIGEST_KEY"


class SecretUnreadable(Exception):
    """A stored secret cannot be decrypted: its key was removed, or it was moved or damaged."""


def encrypt(plaintext: str, *, bound_to: str) -> str:
    """Encrypt under the newest key. `bound_to` names row and field, e.g. `apikey:3f9a:secret`; it is not stored."""
    key_id, key = next(iter(settings.ENCRYPTION_KEYS.items()))
    nonce = os.urandom(_NONCE_BYTES)
    ciphertext = AESGCM(key).encrypt(nonce, plaintext.encode(), bound_to.encode())
    return f"{_FORMAT}:{key_id}:{base64.urlsafe_b64encode(nonce + ciphertext).decode()}"


def decrypt(stored: str, *, bound_to: str) -> str:
    """Decrypt the output of `encrypt`. Raises SecretUnreadable."""
    try:
        version, key_id, encoded = stored.split(":")
        data = base64.urlsafe_b64decode(encoded)
        if version != _FORMAT:
            raise ValueError
        key = AESGCM(settings.ENCRYPTION_KEYS[key_id])
        plaintext = key.decrypt(data[:_NONCE_BYTES], data[_NONCE_BYTES:], bound_to.encode())
    except (ValueError, KeyError, InvalidTag):
        raise SecretUnreadable(
            f"The secret of {bound_to} cannot be decrypted with the keys in ENCRYPTION_KEYS."
        ) from None
    return plaintext.decode()


def key_id_of(stored: str) -> str:
    return stored.split(":")[1]


@overload
def digest(purpose: OfClients, scope: UUID, value: str | bytes) -> bytes: ...
@overload
def digest(purpose: OfStaff, scope: int, value: str | bytes) -> bytes: ...
def digest(purpose: OfClients | OfStaff, scope: UUID | int, value: str | bytes) -> bytes:
    """Return the 32-byte keyed digest of `value`. Equal values in different scopes have unrelated digests.

    `scope` is the chatbot's public id for the id of a conversation or message, and for a call, the variable's public
    id for a UCI value, the user's number for a credential.
    """
    data = value if isinstance(value, bytes) else value.encode()
    return hmac.digest(settings.DIGEST_KEY, f"{purpose}:{scope}:".encode() + data, "sha256")


def fingerprint() -> bytes:
    """Return 32 bytes that identify `DIGEST_KEY` and are no digest of any value."""
    return hmac.digest(settings.DIGEST_KEY, _FINGERPRINT, "sha256")
