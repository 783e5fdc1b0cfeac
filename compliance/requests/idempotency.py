"""Remember calls that were answered, so that the same call again gets the same request for an answer.

Two things make calls "the same": the signature (kept longer than its timestamp is accepted, so a captured
call cannot be filed twice) and the header `Idempotency-Key` (24 hours, chosen by the client). A signed call
that carries the header is known by both: the header is looked up first, and whoever sends the captured call
with another header, or without, still meets the signature.

Only keyed digests are stored, of keys and of bodies. An expired row is no answer and is overwritten.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from django.db.models.functions import Now

from chatbots.models import Chatbot
from common import crypto
from common.db import fetch
from compliance.errors import Refused
from compliance.models import ComplianceRequest, Replay

SIGNATURE_KEPT = timedelta(minutes=10)
IDEMPOTENCY_KEY_KEPT = timedelta(hours=24)

# By the database's clock. A row that is still an answer is left alone, and no row comes back for it. Another call
# with the same key waits here until this transaction ends. In the order of the places: the Idempotency-Key comes
# first in every call, so no two calls can each hold what the other waits for.
_REMEMBER = """
INSERT INTO compliance_replay (chatbot_id, path, digest, body_digest, request_id, existing, expires_at)
SELECT call.chatbot_id, call.path, call.digest, call.body_digest, call.request_id, call.existing,
       statement_timestamp() + make_interval(secs => call.kept)
  FROM {provided} (VALUES {rows}) AS call(place, chatbot_id, path, digest, body_digest, request_id, existing, kept)
 ORDER BY call.place
    ON CONFLICT (chatbot_id, path, digest) DO UPDATE
   SET body_digest = excluded.body_digest, request_id = excluded.request_id, existing = excluded.existing,
       expires_at = excluded.expires_at
 WHERE compliance_replay.expires_at <= statement_timestamp()
RETURNING id
"""
_ROW = "(%s::int, %s::bigint, %s::varchar, %s::bytea, %s::bytea, %s::uuid, %s::bool, %s::float8)"


@dataclass(frozen=True)
class ReplayKey:
    """What makes a call the same as an earlier one. Built by `replay_key`.

    `also` is a second key under which the same call is known.
    """

    path: str
    digest: bytes
    body_digest: bytes
    expires_in: timedelta
    also: "ReplayKey | None" = None

    def each(self) -> Iterator["ReplayKey"]:
        yield self
        if self.also:
            yield self.also


def replay_key(
    *, chatbot: Chatbot, path: str, body: bytes, signature: str = "", idempotency_key: str = ""
) -> ReplayKey | None:
    """Return the key of a call on `path`; None when it has neither a signature nor an Idempotency-Key."""
    body_digest = crypto.digest("body", chatbot.public_id, body)
    key = None
    if signature:
        digest = crypto.digest("replay", chatbot.public_id, f"signature:{signature}")
        key = ReplayKey(path, digest, body_digest, SIGNATURE_KEPT)
    if idempotency_key:
        digest = crypto.digest("replay", chatbot.public_id, f"idempotency-key:{idempotency_key}")
        key = ReplayKey(path, digest, body_digest, IDEMPOTENCY_KEY_KEPT, also=key)
    return key


def recall(chatbot: Chatbot, key: ReplayKey) -> ComplianceRequest | None:
    """Return the request that answered this call before, or None when the call is new.

    A call that is found by one of its keys is from then on known by the other too. Raises
    Refused(`idempotency_conflict`) when the key came with another body.
    """
    for candidate in key.each():
        replay = _find(chatbot, candidate)
        if replay is None:
            continue
        if bytes(replay.body_digest) != candidate.body_digest:
            raise Refused("idempotency_conflict", "The Idempotency-Key came with another body. Use a new one.")
        others = [other for other in key.each() if other is not candidate]
        replay.request.existing = replay.existing
        if others and not remember(others, replay.request) and candidate is not key:
            # The Idempotency-Key, looked for first and not found, has got an answer meanwhile: it counts.
            return recall(chatbot, key)
        return replay.request
    return None


def remembering(
    keys: Sequence[ReplayKey], request: ComplianceRequest, *, provided: str = ""
) -> tuple[str, list[Any]]:
    """Return the statement, and its parameters, by which these calls are answered with `request` from now on.

    It returns one row for each key that was new. `provided` names a query of the same statement: nothing is
    stored unless that one has a row.
    """
    if not keys:
        return "SELECT WHERE FALSE", []
    values = [
        value
        for place, key in enumerate(keys)
        for value in (
            *(place, request.chatbot_id, key.path, key.digest, key.body_digest, request.pk, request.existing),
            key.expires_in.total_seconds(),
        )
    ]
    rows = ", ".join([_ROW] * len(keys))
    return _REMEMBER.format(provided=f"{provided}," if provided else "", rows=rows), values


def _find(chatbot: Chatbot, key: ReplayKey) -> Replay | None:
    return (
        Replay.objects.filter(chatbot=chatbot, path=key.path, digest=key.digest, expires_at__gt=Now())
        .select_related("request", "request__export")
        .first()
    )


def remember(keys: Sequence[ReplayKey], request: ComplianceRequest) -> bool:
    """Answer these calls with `request` from now on; return whether each was new, or its row expired."""
    return len(fetch(*remembering(keys, request))) == len(keys)
