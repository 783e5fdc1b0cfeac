"""Who is calling: a signature over the body, or a token.

A signature (`X-Mindsay-Timestamp`, `X-Mindsay-Signature`) covers the body and no path; views that accept one
say so. A token (`Authorization: Bearer dca_<prefix>_<secret>`) serves every call that its scopes allow. Where
a signature is accepted, a call that bears both is refused: it would be unclear whose scopes count. An
`Authorization` header of another scheme is ignored, since it may belong to a proxy in front.

Whoever cannot authenticate learns nothing about which chatbots exist: an unknown slug takes the way of a bad
signature, and a token of another chatbot meets 404 as on an unknown slug.
"""

import hashlib
import hmac
import logging
import re
import time
from collections.abc import Collection, Iterable
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
from common.bodies import raw_body
from common.crypto import SecretUnreadable, decrypt, encrypt
from common.problems import Problem
from config.web.limits import SMALL_BODY_BYTES

logger = logging.getLogger(__name__)

TIMESTAMP_HEADER = "X-Mindsay-Timestamp"
SIGNATURE_HEADER = "X-Mindsay-Signature"
TOLERANCE = timedelta(minutes=5)
LAST_USED_EVERY = timedelta(minutes=1)

# ASCII digits only, and few: what else int() would take is no timestamp.
_TIMESTAMP = re.compile(r"[0-9]{1,12}")
_SIGNATURE = re.compile(r"[0-9a-f]{64}")
_TOKEN = re.compile(r"dca_([0-9a-f]{12})_[0-9a-f]{64}")
# Stand-ins, so that a caller who names no key of ours costs as much work as one who names the wrong secret.
_NO_DIGEST = bytes(32)
_NO_SECRET = "no secret"  # noqa: S105
# How many keys' work a signature costs that none of them made. More active keys than this are rare.
_TRIES = 4


@dataclass(frozen=True)
class Caller:
    """The key that a call was made with, and the chatbot it is for: `request.auth`."""

    chatbot: Chatbot
    api_key: ApiKey
    method: Literal["signature", "token"]

    @property
    def actor(self) -> str:
        """As the change log names it."""
        return f"api:{self.api_key.prefix}"

    def has_scope(self, scope: str) -> bool:
        return scope in self.api_key.scopes

    def require_scope(self, scope: str) -> None:
        """Raise Problem(`scope_missing`) unless the key has the scope."""
        if not self.has_scope(scope):
            raise Problem("scope_missing", f"This call needs a key with the scope {scope}.")

    def require_one_of(self, scopes: Iterable[str]) -> None:
        """Raise Problem(`scope_missing`) unless the key has one of the scopes at least."""
        if not any(map(self.has_scope, scopes)):
            raise Problem("scope_missing", f"This call needs a key with the scope {' or '.join(scopes)}.")


class SignatureAuthentication(BaseAuthentication):
    """HMAC-SHA256 over timestamp and raw body, by any active signing key of the chatbot in the path."""

    def authenticate(self, request: Request) -> tuple[AnonymousUser, Caller] | None:
        signed = self._headers(request)
        if signed is None:
            return None
        timestamp, signature = signed
        key = _key_that_signed(timestamp.encode(), body_of(request), signature, slug=_slug(request))
        if key is None:
            raise Problem("invalid_signature", "No active signing key of this chatbot made this signature.")
        _note_use(key)
        return AnonymousUser(), Caller(key.chatbot, key, "signature")

    def may_send(self, request: Request) -> bool:
        """Say whether the body is worth reading: what it was signed with, only the whole of it tells."""
        return self._headers(request) is not None

    def _headers(self, request: Request) -> tuple[str, str] | None:
        """Return timestamp and signature; None of a call that has neither. Raises Problem before a body is read."""
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
        _note_use(key)
        if key.chatbot.slug != _slug(request):
            raise Problem("not_found", "The token's chatbot has nothing at this path.")
        return AnonymousUser(), Caller(key.chatbot, key, "token")

    def may_send(self, request: Request) -> bool:
        """Say whether the body is worth reading."""
        token = _bearer(request)
        key = _key_of_token(token) if token is not None else None
        return key is not None and key.chatbot.slug == _slug(request)


def caller_of(request: Request) -> Caller:
    """Return who makes an authenticated call."""
    return cast("Caller", request.auth)


def body_of(request: Request) -> bytes:
    """Return the exact bytes of a call's body, of as many as its view takes. Raises Problem."""
    most = getattr(request.parser_context["view"], "most_body_bytes", None)
    return raw_body(request._request, most=most() if most else SMALL_BODY_BYTES)


def sign(*, secret: str, timestamp: str, body: bytes) -> str:
    """Return the value of X-Mindsay-Signature for a body sent at `timestamp` (Unix seconds, as text)."""
    return _made_with(secret, timestamp.encode(), body)


def _refuse_stale(timestamp: str) -> None:
    if not _TIMESTAMP.fullmatch(timestamp) or abs(time.time() - int(timestamp)) > TOLERANCE.total_seconds():
        raise Problem("stale_timestamp", f"{TIMESTAMP_HEADER} must be Unix seconds within 5 minutes of now.")


def _key_that_signed(timestamp: bytes, body: bytes, signature: str, *, slug: str) -> ApiKey | None:
    """Try every active key to the end: time does not tell which of them fits.

    Where none does, the work is that of _TRIES keys, whether the chatbot has that many, fewer, or does not exist.
    Raises Problem(`unavailable`) when one of the keys could not be tried.
    """
    keys = list(_active_keys(ApiKey.Type.SIGNING).filter(chatbot__slug=slug))
    secrets = [_secret_of(key) for key in keys]
    fits = [_is_made_with(secret or _NO_SECRET, timestamp, body, signature) for secret in secrets]
    for key, secret, fit in zip(keys, secrets, fits, strict=True):
        if fit and secret is not None:
            return key
    for _ in range(len(keys), _TRIES):
        ApiKey(chatbot=Chatbot())
        _is_made_with(_stand_in_secret(), timestamp, body, signature)
    if None in secrets:
        raise Problem("unavailable", "The signature cannot be checked for now. Send the call again later.")
    return None


def _stand_in_secret() -> str:
    try:
        return decrypt(_sealed_stand_in(), bound_to=_NO_SECRET)
    except SecretUnreadable:
        return _NO_SECRET


@cache
def _sealed_stand_in() -> str:
    return encrypt(_NO_SECRET, bound_to=_NO_SECRET)


def _is_made_with(secret: str, timestamp: bytes, body: bytes, signature: str) -> bool:
    return hmac.compare_digest(_made_with(secret, timestamp, body), signature)


def _made_with(secret: str, timestamp: bytes, body: bytes) -> str:
    # Not joined first: a large body would be there twice.
    made = hmac.new(secret.encode(), timestamp, "sha256")
    made.update(body)
    return made.hexdigest()


def _secret_of(key: ApiKey) -> str | None:
    """Return the secret of a signing key, or None when the key ring does not open it."""
    try:
        return decrypt(key.secret_encrypted, bound_to=secret_binding(key.prefix))
    except SecretUnreadable:
        logger.exception("A signing key cannot be used until ENCRYPTION_KEYS opens it again.")
        return None


def _key_of_token(token: str) -> ApiKey | None:
    match = _TOKEN.fullmatch(token)
    if match is None:
        return None
    key = _active_keys(ApiKey.Type.TOKEN).filter(prefix=match[1]).first()
    kept = bytes(key.secret_sha256 or _NO_DIGEST) if key else _NO_DIGEST
    return key if hmac.compare_digest(token_digest(token), kept) else None


def _active_keys(key_type: ApiKey.Type) -> QuerySet[ApiKey]:
    unexpired = Q(expires_at__isnull=True) | Q(expires_at__gt=Now())
    return ApiKey.objects.filter(unexpired, type=key_type, revoked_at__isnull=True).select_related("chatbot")


@dataclass(frozen=True)
class SigningKey:
    """What we sign with ourselves. `secret` is None while the key ring does not open it."""

    prefix: str
    secret: str | None


def newest_signing_keys(chatbot_ids: Collection[int]) -> dict[int, SigningKey]:
    """Return the newest active signing key of each of the chatbots that have one, by the chatbot's id."""
    keys = _active_keys(ApiKey.Type.SIGNING).filter(chatbot__in=chatbot_ids)
    newest = keys.order_by("chatbot_id", "-created_at", "-pk").distinct("chatbot_id")
    return {key.chatbot_id: SigningKey(key.prefix, _secret_of(key)) for key in newest}


def has_signing_key(chatbot: Chatbot) -> bool:
    """Say whether the chatbot has an active signing key."""
    return _active_keys(ApiKey.Type.SIGNING).filter(chatbot=chatbot).exists()


def _note_use(key: ApiKey) -> None:
    """Write last_used_at, at most once a minute however many calls come at once."""
    # Our clock only decides whether to ask; whether to write is decided by the database's.
    if key.last_used_at is None or key.last_used_at < timezone.now() - LAST_USED_EVERY:
        due = Q(last_used_at__isnull=True) | Q(last_used_at__lt=Now() - LAST_USED_EVERY)
        ApiKey.objects.filter(due, pk=key.pk).update(last_used_at=Now())


def _bearer(request: Request) -> str | None:
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else None


def _slug(request: Request) -> str:
    return str(request.parser_context["kwargs"]["slug"])


def secret_binding(prefix: str) -> str:
    """What the encrypted secret of a signing key is bound to (`common.crypto`)."""
    return f"apikey:{prefix}:secret"


def token_digest(token: str) -> bytes:
    """The SHA-256 that is kept of a token: of the whole `dca_…` string, which holds 256 random bits."""
    return hashlib.sha256(token.encode()).digest()
