"""Remember calls that were answered, so that the same call again gets the same request for an answer.

Two things make calls "the same": the signature (kept longer than its timestamp is accepted, so a captured
call cannot be filed twice) and the header `Idempotency-Key` (24 hours, chosen by the client). A signed call
that carries the header is known by both: the header is looked up first, and whoever sends the captured call
with another header, or without, still meets the signature.

Only keyed digests are stored, of keys and of bodies. An expired row is no answer and is overwritten.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta

from django.db import connection
from django.db.models.functions import Now

from chatbots import secrets
from chatbots.models import Chatbot
from compliance.errors import Refused
from compliance.models import ComplianceRequest, Replay

SIGNATURE_KEPT = timedelta(minutes=10)
IDEMPOTENCY_KEY_KEPT = timedelta(hours=24)

# One statement, by the database's clock. A row that is still an answer is left alone, and no row comes back.
_REMEMBER = """
INSERT INTO compliance_replay (chatbot_id, path, digest, body_digest, request_id, expires_at)
VALUES (%s, %s, %s, %s, %s, statement_timestamp() + make_interval(secs => %s))
ON CONFLICT (chatbot_id, path, digest) DO UPDATE
   SET body_digest = excluded.body_digest, request_id = excluded.request_id, expires_at = excluded.expires_at
 WHERE compliance_replay.expires_at <= statement_timestamp()
RETURNING id
"""


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
    body_digest = secrets.digest("body", chatbot.pk, body)
    key = None
    if signature:
        digest = secrets.digest("replay", chatbot.pk, f"signature:{signature}")
        key = ReplayKey(path, digest, body_digest, SIGNATURE_KEPT)
    if idempotency_key:
        digest = secrets.digest("replay", chatbot.pk, f"idempotency-key:{idempotency_key}")
        key = ReplayKey(path, digest, body_digest, IDEMPOTENCY_KEY_KEPT, also=key)
    return key


def recall(chatbot: Chatbot, key: ReplayKey) -> ComplianceRequest | None:
    """Return the request that answered this call before, or None when the call is new.

    Call it inside the transaction that goes on to `remember`: of two concurrent calls with one key, the
    second waits here until the first has ended, and then finds what it stored. A call that is found by one of
    its keys is from then on known by the other too. Raises Refused(`idempotency_conflict`) when the key came
    with another body.
    """
    _wait_for_concurrent_calls(key)
    for candidate in key.each():
        replay = _find(chatbot, candidate)
        if replay is None:
            continue
        if bytes(replay.body_digest) != candidate.body_digest:
            raise Refused("idempotency_conflict", "The Idempotency-Key came with another body. Use a new one.")
        for other in key.each():
            _insert(chatbot, other, replay.request)
        return replay.request
    return None


def remember(chatbot: Chatbot, key: ReplayKey, request: ComplianceRequest) -> None:
    """Remember, in the caller's transaction, that this call is answered with `request`.

    `recall` must have returned None in the same transaction. Raises RuntimeError otherwise, if the key turns
    out to be taken.
    """
    for candidate in key.each():
        if not _insert(chatbot, candidate, request):
            raise RuntimeError("Answered before: call recall() first, in the same transaction.")


def _wait_for_concurrent_calls(key: ReplayKey) -> None:
    # Until the transaction ends. Always the Idempotency-Key first, then the signature: no two calls can each
    # hold what the other waits for.
    with connection.cursor() as cursor:
        for candidate in key.each():
            lock = int.from_bytes(candidate.digest[:8], "big", signed=True)
            cursor.execute("SELECT pg_advisory_xact_lock(%s)", [lock])


def _find(chatbot: Chatbot, key: ReplayKey) -> Replay | None:
    return (
        Replay.objects.filter(chatbot=chatbot, path=key.path, digest=key.digest, expires_at__gt=Now())
        .select_related("request", "request__export")
        .first()
    )


def _insert(chatbot: Chatbot, key: ReplayKey, request: ComplianceRequest) -> bool:
    """Return whether a row was written: a new one, or over an expired one."""
    kept = key.expires_in.total_seconds()
    with connection.cursor() as cursor:
        cursor.execute(_REMEMBER, [chatbot.pk, key.path, key.digest, key.body_digest, request.pk, kept])
        return cursor.fetchone() is not None
