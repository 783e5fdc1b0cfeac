"""Remember answered calls, so that a repeated call gets the same requests.

A repeated call is recognised by the signature (kept longer than its timestamp is accepted, so a captured call cannot
be filed twice) or by the header `Idempotency-Key` (24 hours, chosen by the client). A signed call with the header is
recognised by both, so a captured call that is sent with another key, or without one, is still found by its signature.

An item of a batch is recognised by the call's keys and its place in the list. The batch itself is also recorded, with
its first request: another body with its key is a conflict whatever its items are, and of two equal simultaneous calls
the later waits there. Refused items are not remembered: sent again, they are filed if nothing prevents it any more.

Only keyed digests of keys and bodies are stored. Expired rows are ignored and overwritten.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import NamedTuple
from uuid import UUID

from chatbots.models import Chatbot
from common import crypto
from common.db import array, fetch
from compliance.errors import Refused
from compliance.models import ComplianceRequest

SIGNATURE_KEPT = timedelta(minutes=10)
IDEMPOTENCY_KEY_KEPT = timedelta(hours=24)

# OFFSET 0 makes PostgreSQL do one look-up for each digest.
_RECALL = """
SELECT asked.digest, found.body_digest, found.request_id, found.existing
  FROM unnest(%s::bytea[]) AS asked(digest)
 CROSS JOIN LATERAL (
       SELECT body_digest, request_id, existing FROM compliance_replay
        WHERE chatbot_id = %s AND path = %s AND digest = asked.digest AND expires_at > statement_timestamp()
       OFFSET 0) AS found
"""
_REQUESTS = """
SELECT r.* FROM unnest(%s::uuid[]) AS ours(id)
 CROSS JOIN LATERAL (SELECT * FROM compliance_compliancerequest WHERE id = ours.id OFFSET 0) AS r
"""


class Answer(NamedTuple):
    """The request that answers a call, or an item of it. `existing`: an earlier call filed it."""

    request: ComplianceRequest
    existing: bool = False


class Key(NamedTuple):
    """The digest by which a call, or the item at this place, is recognised, and its lifetime."""

    digest: bytes
    place: int
    kept: timedelta


@dataclass(frozen=True)
class ReplayKey:
    """The key by which a repeated call is recognised. Built by `replay_key`.

    `digests` are those of the Idempotency-Key and the signature, the former first, with the time for which each is
    kept. `has_items`: the call is a batch.
    """

    chatbot: Chatbot
    path: str
    body_digest: bytes
    digests: Mapping[bytes, timedelta]
    has_items: bool = False

    def items(self, places: Collection[int]) -> Iterator[Key]:
        """Yield the keys of the items; a call that is no batch is its only item."""
        for place in sorted(places):
            for digest, kept in self.digests.items():
                if self.has_items:
                    value = f"item:{place}:".encode() + digest
                    yield Key(crypto.digest("replay", self.chatbot.public_id, value), place, kept)
                else:
                    yield Key(digest, place, kept)

    def all(self, places: Collection[int]) -> list[Key]:
        """Return the keys of the call and of its items, in the order in which every call stores them.

        The common order prevents deadlocks between calls.
        """
        call = [Key(digest, min(places), kept) for digest, kept in self.digests.items()] if places else []
        return [*call, *self.items(places)] if self.has_items else call


def replay_key(
    *,
    chatbot: Chatbot,
    path: str,
    body: bytes,
    signature: str = "",
    idempotency_key: str = "",
    has_items: bool = False,
) -> ReplayKey | None:
    """Return the key of a call on `path`; None if it has neither a signature nor an Idempotency-Key."""
    given = {f"idempotency-key:{idempotency_key}": IDEMPOTENCY_KEY_KEPT} if idempotency_key else {}
    if signature:
        given[f"signature:{signature}"] = SIGNATURE_KEPT
    digests = {crypto.digest("replay", chatbot.public_id, text): kept for text, kept in given.items()}
    body_digest = crypto.digest("body", chatbot.public_id, body)
    return ReplayKey(chatbot, path, body_digest, digests, has_items) if digests else None


@dataclass
class Recalled:
    """The stored answers of a call by place, and the digests that were found."""

    answers: dict[int, Answer] = field(default_factory=dict)
    digests: set[bytes] = field(default_factory=set)


def recall(key: ReplayKey, places: Collection[int]) -> Recalled:
    """Return the stored answers of a call. Raises Refused(`idempotency_conflict`) if its key had another body."""
    digests = {one.digest for one in key.all(places)} | set(key.digests)
    found = fetch(_RECALL, [list(digests), key.chatbot.pk, key.path])
    if any(bytes(body) != key.body_digest for _, body, *_ in found):
        raise Refused("idempotency_conflict", "The Idempotency-Key came with another body. Use a new one.")
    answer_of: dict[bytes, tuple[UUID, bool]] = {bytes(digest): (pk, existing) for digest, _, pk, existing in found}
    ids = array({pk for pk, _ in answer_of.values()})
    requests = {request.pk: request for request in ComplianceRequest.objects.raw(_REQUESTS, [ids])}
    recalled = Recalled(digests=set(answer_of))
    for one in key.items(places):
        if one.digest in answer_of:
            pk, existing = answer_of[one.digest]
            # The Idempotency-Key comes first, and takes precedence over the signature.
            recalled.answers.setdefault(one.place, Answer(requests[pk], existing))
    return recalled
