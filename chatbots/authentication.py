"""Authentication of API calls: a signature over the body, or a token.

A signature (`X-Mindsay-Timestamp`, `X-Mindsay-Signature`) covers the body and no path; views opt in. A token
(`Authorization: Bearer dca_<prefix>_<secret>`) serves every call that its scopes allow. A call with both is refused:
it would be unclear which scopes count. Other `Authorization` schemes are ignored, since they may belong to a proxy.

An unauthenticated caller cannot learn which chatbots exist: an unknown slug is treated like a bad signature,
and a token of another chatbot gets 404 as for an unknown slug.
"""

import hashlib
import hmac
import logging
import re
import time
from collections.abc import Collection
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from typing import Literal, cast

from django.contrib.auth.models import AnonymousUser
from django.db.models import Q, QuerySet
from django.db.models.functions import Now
from django.utils import timezone
from rest_framework.authentication import BaseAuthentication
from rest_framework.request import Request

from chatbots.models import ApiKey, Chatbot
from common.bodies import SMALL_BODY_BYTES, raw_body
from common.crypto import SecretUnreadable, decrypt, encrypt
from common.problems import Problem

logger = logging.getLogger(__name__)

TIMESTAMP_HEADER = "X-Mindsay-Timestamp"
SIGNATURE_HEADER = "X-Mindsay-Signature"
# Any caller can send a body with a false signature, which is detected only when all of it has arrived.
MOST_SIGNED_BYTES = 1024 * 1024
TOLERANCE = timedelta(minutes=5)
LAST_USED_EVERY = timedelta(minutes=1)

# Few ASCII digits: int() would accept more.
_TIMESTAMP = re.compile(r"[0-9]{1,12}")
_SIGNATURE = re.compile(r"[0-9a-f]{64}")
_TOKEN = re.compile(r"dca_([0-9a-f]{12})_[0-9a-f]{64}")
# Stand-ins, so that an unknown key costs as much work as a wrong secret.
_NO_DIGEST = bytes(32)
_NO_SECRET = "no secret"  # noqa: S105
# A signature that matches no key costs the work of this many keys. More active keys are rare.
_TRIES = 4


@dataclass(frozen=True)
class Caller:
    """The key of a call and its chatbot: `request.auth`."""

    chatbot: Chatbot
    api_key: ApiKey
    method: Literal["signature", "token"]

    @property
    def actor(self) -> str:
        return f"api:{self.api_key.prefix}"

    def has_scope(self, scope: str) -> bool:
        return scope in self.api_key.scopes

    def require_scope(self, *scopes: str) -> None:
        """Raise Problem(`scope_missing`) unless the key has at least one of the scopes."""
        if not any(map(self.has_scope, scopes)):
            raise Problem("scope_missing", f"This call needs a key with the scope {' or '.join(scopes)}.")


class SignatureAuthentication(BaseAuthentication):
    """HMAC-SHA256 over timestamp and raw body, with any active signing key of the chatbot in the path."""

    def authenticate(self, request: Request) -> tuple[AnonymousUser, Caller] | None:
        signed = self._headers(request)
        if signed is None:
            return None
        timestamp, signature = signed
        key = _find_signing_key(timestamp, body_of(request), signature, slug=_slug(request))
        if key is None:
            raise Problem("invalid_signature", "No active signing key of this chatbot made this signature.")
        _record_use(key)
        return AnonymousUser(), Caller(key.chatbot, key, "signature")

    def _headers(self, request: Request) -> tuple[str, str] | None:
        """Return timestamp and signature, or None if both are missing. Raises Problem before the body is read."""
        timestamp, signature = request.headers.get(TIMESTAMP_HEADER), request.headers.get(SIGNATURE_HEADER)
        if timestamp is None and signature is None:
            return None
        if timestamp is None or signature is None:
            raise Problem("invalid_signature", f"Send both {TIMESTAMP_HEADER} and {SIGNATURE_HEADER}.")
        if _bearer(request) is not None:
            raise Problem("not_authenticated", "Send a signature or a token, not both.")
        _refuse_stale(timestamp)
        if not _SIGNATURE.fullmatch(signature):
            raise Problem("invalid_signature", f"{SIGNATURE_HEADER} must be 64 hexadecimal digits, in lower case.")
        return timestamp, signature


class TokenAuthentication(BaseAuthentication):
    """`Authorization: Bearer dca_<prefix>_<secret>`: found by its prefix, compared by its SHA-256."""

    def authenticate(self, request: Request) -> tuple[AnonymousUser, Caller] | None:
        token = _bearer(request)
        if token is None:
            return None
        key = _key_of_token(token)
        if key is None:
            raise Problem("not_authenticated", "The token is unknown, expired or revoked.")
        _record_use(key)
        if key.chatbot.slug != _slug(request):
            raise Problem("not_found", "The token's chatbot has nothing at this path.")
        return AnonymousUser(), Caller(key.chatbot, key, "token")


def caller_of(request: Request) -> Caller:
    return cast("Caller", request.auth)


def body_of(request: Request) -> bytes:
    """Return the exact bytes of the body, up to the limit of the view. Raises Problem."""
    limit = getattr(request.parser_context["view"], "max_body_bytes", None)
    most = limit() if limit else SMALL_BODY_BYTES
    is_signed = SIGNATURE_HEADER in request.headers
    return raw_body(request._request, most=min(most, MOST_SIGNED_BYTES) if is_signed else most)


def sign(*, secret: str, timestamp: str, body: bytes) -> str:
    """Return X-Mindsay-Signature for a body sent at `timestamp` (Unix seconds)."""
    # Joined first, a large body would be in memory twice.
    mac = hmac.new(secret.encode(), timestamp.encode(), "sha256")
    mac.update(body)
    return mac.hexdigest()


def _refuse_stale(timestamp: str) -> None:
    if not _TIMESTAMP.fullmatch(timestamp) or abs(time.time() - int(timestamp)) > TOLERANCE.total_seconds():
        raise Problem("stale_timestamp", f"{TIMESTAMP_HEADER} must be Unix seconds within 5 minutes of now.")


def _find_signing_key(timestamp: str, body: bytes, signature: str, *, slug: str) -> ApiKey | None:
    """Return the active key that made the signature. All are tried, so that timing does not reveal which one matches.

    If none matches, the work is that of _TRIES keys, whether the chatbot has that many, fewer, or does not exist.
    Raises Problem(`unavailable`) if a key could not be tried.
    """
    keys = list(active_keys(ApiKey.Type.SIGNING).filter(chatbot__slug=slug))
    secrets = [_secret_of(key) for key in keys]
    fits = [_matches(secret or _NO_SECRET, timestamp, body, signature) for secret in secrets]
    for key, secret, fit in zip(keys, secrets, fits, strict=True):
        if fit and secret is not None:
            return key
    for _ in range(len(keys), _TRIES):
        ApiKey(chatbot=Chatbot())
        _matches(_stand_in_secret(), timestamp, body, signature)
    if None in secrets:
        raise Problem("unavailable", "The signature cannot be checked for now. Send the call again later.")
    return None


def _stand_in_secret() -> str:
    try:
        return decrypt(_encrypted_stand_in(), bound_to=_NO_SECRET)
    except SecretUnreadable:
        return _NO_SECRET


@cache
def _encrypted_stand_in() -> str:
    return encrypt(_NO_SECRET, bound_to=_NO_SECRET)


def _matches(secret: str, timestamp: str, body: bytes, signature: str) -> bool:
    return hmac.compare_digest(sign(secret=secret, timestamp=timestamp, body=body), signature)


def _secret_of(key: ApiKey) -> str | None:
    """Return the secret of a signing key, or None if ENCRYPTION_KEYS cannot decrypt it."""
    try:
        return decrypt(key.secret_encrypted, bound_to=secret_binding(key.prefix))
    except SecretUnreadable:
        logger.exception("A signing key cannot be used until ENCRYPTION_KEYS can decrypt it again.")
        return None


def _key_of_token(token: str) -> ApiKey | None:
    match = _TOKEN.fullmatch(token)
    if match is None:
        return None
    key = active_keys(ApiKey.Type.TOKEN).filter(prefix=match[1]).first()
    stored = bytes(key.secret_sha256 or _NO_DIGEST) if key else _NO_DIGEST
    return key if hmac.compare_digest(token_digest(token), stored) else None


def active_keys(key_type: ApiKey.Type) -> QuerySet[ApiKey]:
    """Return the keys of a type that are neither revoked nor expired, with their chatbots."""
    unexpired = Q(expires_at__isnull=True) | Q(expires_at__gt=Now())
    return ApiKey.objects.filter(unexpired, type=key_type, revoked_at__isnull=True).select_related("chatbot")


@dataclass(frozen=True)
class SigningKey:
    """A key that signs our own calls. `secret` is None if ENCRYPTION_KEYS cannot decrypt it."""

    prefix: str
    secret: str | None


def newest_signing_keys(chatbot_ids: Collection[int]) -> dict[int, SigningKey]:
    """Return the newest active signing key of each chatbot that has one, by the chatbot's id."""
    keys = active_keys(ApiKey.Type.SIGNING).filter(chatbot__in=chatbot_ids)
    newest = keys.order_by("chatbot_id", "-created_at", "-pk").distinct("chatbot_id")
    return {key.chatbot_id: SigningKey(key.prefix, _secret_of(key)) for key in newest}


def has_signing_key(chatbot: Chatbot) -> bool:
    return active_keys(ApiKey.Type.SIGNING).filter(chatbot=chatbot).exists()


def _record_use(key: ApiKey) -> None:
    """Update last_used_at, at most once a minute even for simultaneous calls."""
    # Our clock decides whether to ask; the database's decides whether to write.
    if key.last_used_at is None or key.last_used_at < timezone.now() - LAST_USED_EVERY:
        due = Q(last_used_at__isnull=True) | Q(last_used_at__lt=Now() - LAST_USED_EVERY)
        ApiKey.objects.filter(due, pk=key.pk).update(last_used_at=Now())


def _bearer(request: Request) -> str | None:
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    # Not the other characters that Python takes for white space.
    return token.strip(" ") if scheme.lower() == "bearer" else None


def _slug(request: Request) -> str:
    return str(request.parser_context["kwargs"]["slug"])


def secret_binding(prefix: str) -> str:
    """Return the context to which the encrypted secret of a signing or identity key is bound (`common.crypto`)."""
    return f"apikey:{prefix}:secret"


def token_digest(token: str) -> bytes:
    """Return the stored SHA-256 of a token: of the whole `dca_…` string, which has 256 random bits."""
    return hashlib.sha256(token.encode()).digest()
