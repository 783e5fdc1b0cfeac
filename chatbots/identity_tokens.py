"""Identity tokens: compact JWS in which a client's backend identifies the chatter of a conversation.

A token selects its key by `kid` only. Each key has one algorithm, which the header must have too (ADR 0047). `parse`
and `verify` neither fetch nor store anything.
"""

import json
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NoReturn
from uuid import UUID

from django.db import transaction
from django.db.models import Q, QuerySet
from django.db.models.functions import Now
from django.utils.timezone import now
from joserfc import jws
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, Key, OctKey, RSAKey
from joserfc.registry import JWS_HEADER_REGISTRY
from joserfc.util import urlsafe_b64decode

from chatbots.authentication import LAST_USED_EVERY, active_keys, secret_binding
from chatbots.models import ApiKey, Chatbot, uci_value_fault
from common.bodies import unique_names
from common.crypto import decrypt

MAX_CHARACTERS = 8192
# In whole seconds, as the token's own times: a float cannot hold every number that JSON can write.
LONGEST_LIFE_SECONDS = 24 * 60 * 60
LEEWAY_SECONDS = 60

Algorithm = ApiKey.Algorithm

# Any other `kid` of a token is no prefix of ours, and may be a text that the database refuses.
_KID = re.compile(r"[0-9a-f]{12}")
_HEADER_NAMES = ("alg", "kid", "typ")
_COMPACT = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")
_TYPES = ("JWT", "jwt")


_KINDS: Mapping[Algorithm, type[OctKey | ECKey | RSAKey]] = {
    Algorithm.HS256: OctKey,
    Algorithm.ES256: ECKey,
    Algorithm.RS256: RSAKey,
}


class TokenRefused(Exception):
    """The token is invalid. `detail` is the reason, in our own words: a token is never quoted."""

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail


@dataclass(frozen=True, slots=True)
class UnverifiedToken:
    """A well-formed token and its header, not verified yet."""

    kid: str
    algorithm: str
    text: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class IdentityKey:
    """The verifier of the tokens of one key record."""

    algorithm: Algorithm
    material: Key = field(repr=False)

    @classmethod
    def build(cls, algorithm: Algorithm, material: str) -> "IdentityKey":
        """Return the key of a secret, or of a public key in PEM that was checked when it was stored."""
        return cls(algorithm, _KINDS[algorithm].import_key(material))


@dataclass(frozen=True, slots=True)
class IdentityClaims:
    """The claims of a verified token about a chatter.

    The caller decides about `has_expired`: a conversation that has the value already continues with its token.
    """

    uci_key: str
    value: str = field(repr=False)
    conversation_id: str | None = field(repr=False)
    has_expired: bool


def parse(token: str) -> UnverifiedToken:
    """Read a token's header. Raises TokenRefused."""
    if len(token) > MAX_CHARACTERS:
        _refuse(f"The token must have at most {MAX_CHARACTERS:,} characters.")
    if not _COMPACT.fullmatch(token):
        _refuse("The token is not a compact JWS: three parts in base64url, joined by dots.")
    header = _json_object(token.partition(".")[0])
    if header is None:
        _refuse("The token's header must be a JSON object that has no name twice.")
    if not header.keys() <= set(_HEADER_NAMES):
        _refuse("The token's header may have alg, kid and typ alone: no key comes with a token, nor its address.")
    kid, algorithm = header.get("kid"), header.get("alg")
    if not isinstance(kid, str) or not isinstance(algorithm, str):
        _refuse("The token's header must have kid and alg, both strings.")
    if header.get("typ", "JWT") not in _TYPES:
        _refuse("The token's typ must be JWT, or missing.")
    return UnverifiedToken(kid, algorithm, token)


def verify(token: UnverifiedToken, key: IdentityKey | None, *, audience: UUID, at: datetime) -> IdentityClaims:
    """Return the claims of a token, by the active key of its `kid` (None: there is none).

    `audience` is the chatbot's public id, `at` the present time. Raises TokenRefused.
    """
    if key is None:
        _refuse("The token's kid names no active identity key of this chatbot.")
    if token.algorithm != key.algorithm:
        _refuse("The token's alg is not the algorithm of the key that its kid names.")
    payload = _verified_payload(token, key)
    if payload is None:
        _refuse("The token's signature was not made with the key that its kid names.")
    claims = _parsed(payload)
    if claims is None:
        _refuse("The token's claims must be a JSON object that has no name twice.")
    if claims.get("aud") != str(audience):
        _refuse("The token's aud must be the public id of the chatbot: one string.")
    has_expired = _check_times(claims, now=at.timestamp())
    return IdentityClaims(
        uci_key=_text(claims, "uci_key"),
        value=_subject(claims),
        conversation_id=_text(claims, "conversation_id") if "conversation_id" in claims else None,
        has_expired=has_expired,
    )


class _Registry(jws.JWSRegistry):
    """Accepts one algorithm, and the names that `parse` accepts in a header."""

    default_header_registry = {name: JWS_HEADER_REGISTRY[name] for name in _HEADER_NAMES}
    max_payload_length = MAX_CHARACTERS


_REGISTRIES: Mapping[Algorithm, _Registry] = {one: _Registry(algorithms=[one.value]) for one in Algorithm}


def _verified_payload(token: UnverifiedToken, key: IdentityKey) -> bytes | None:
    try:
        return jws.deserialize_compact(token.text, key.material, registry=_REGISTRIES[key.algorithm]).payload
    except (JoseError, ValueError):
        return None


def _check_times(claims: Mapping[str, Any], *, now: float) -> bool:
    """Return whether the token has expired. Raises TokenRefused for invalid times."""
    issued_at, expires_at = _seconds(claims, "iat"), _seconds(claims, "exp")
    if issued_at > now + LEEWAY_SECONDS:
        _refuse("The token's iat is in the future.")
    if not issued_at < expires_at <= issued_at + LONGEST_LIFE_SECONDS:
        _refuse("The token's exp must be after its iat, by 24 hours at most.")
    if "nbf" in claims and _seconds(claims, "nbf") > now + LEEWAY_SECONDS:
        _refuse("The token's nbf is in the future.")
    return now >= expires_at + LEEWAY_SECONDS


def _seconds(claims: Mapping[str, Any], name: str) -> int:
    value = claims.get(name)
    # In Python, true is an int.
    if type(value) is not int:
        _refuse(f"The token's {name} must be a whole number of seconds since 1970.")
    return value


def _text(claims: Mapping[str, Any], name: str) -> str:
    value = claims.get(name)
    if not isinstance(value, str):
        _refuse(f"The token's {name} must be a string.")
    return value


def _subject(claims: Mapping[str, Any]) -> str:
    value = _text(claims, "sub")
    if fault := uci_value_fault(value):
        _refuse(f"The token's sub names no chatter. {fault}")
    return value


def _json_object(segment: str) -> dict[str, Any] | None:
    try:
        return _parsed(urlsafe_b64decode(segment.encode()))
    except ValueError:
        return None


def _parsed(data: bytes) -> dict[str, Any] | None:
    """Return the JSON object that this is, in UTF-8, or None. One that has a name twice reads as one thinks."""
    try:
        found = json.loads(data.decode(), object_pairs_hook=unique_names)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _refuse(detail: str) -> NoReturn:
    raise TokenRefused(detail)


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
    algorithm = Algorithm(record.algorithm)
    material = record.public_key
    if algorithm == Algorithm.HS256:
        material = decrypt(record.secret_encrypted, bound_to=secret_binding(record.prefix))
    return IdentityKey.build(algorithm, material)
