"""Remember which requests answered the items of a batch, so that the same call again gets the same ones.

An item is known by the call's key and its place in the list, and by the digest of the whole body. Beside the items
the call is known as such, by its first request: so another body under its key is found out whatever its items are,
and of two equal calls at once the later waits for the earlier there.

An item that was refused is not remembered: sent again, it is filed if nothing is in its way any more.
"""

from collections.abc import Iterable, Iterator, Mapping
from copy import copy
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from chatbots.models import Chatbot
from common.crypto import digest
from common.db import array, fetch
from compliance.errors import Refused
from compliance.models import ComplianceRequest
from compliance.requests.idempotency import ReplayKey

# OFFSET 0 keeps PostgreSQL at one look-up for each digest.
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

# As `idempotency` does for one call. The call as such comes first: whoever has the same waits there, holding nothing.
_REMEMBER = """
INSERT INTO compliance_replay (chatbot_id, path, digest, body_digest, request_id, existing, expires_at)
SELECT %(chatbot)s, %(path)s, call.digest, %(body)s, call.request_id, call.existing,
       statement_timestamp() + make_interval(secs => call.kept)
  FROM unnest(%(digests)s::bytea[], %(requests)s::uuid[], %(existing)s::bool[], %(kept)s::float8[])
         WITH ORDINALITY AS call(digest, request_id, existing, kept, place)
 ORDER BY call.place
    ON CONFLICT (chatbot_id, path, digest) DO UPDATE
   SET body_digest = excluded.body_digest, request_id = excluded.request_id, existing = excluded.existing,
       expires_at = excluded.expires_at
 WHERE compliance_replay.expires_at <= statement_timestamp()
RETURNING id
"""


@dataclass
class Recalled:
    """What is remembered of a call: its requests by the items' places, and the digests that were found."""

    requests: dict[int, ComplianceRequest] = field(default_factory=dict)
    digests: set[bytes] = field(default_factory=set)


def recall(chatbot: Chatbot, key: ReplayKey, places: Iterable[int]) -> Recalled:
    """Return what is remembered of a batch. Raises Refused(`idempotency_conflict`) if the key had another body."""
    place_of = {one.digest: place for place in places for one in _item(chatbot, key, place)}
    asked = [*(one.digest for one in key.each()), *place_of]
    found = [
        (bytes(digest), bytes(body), *answer)
        for digest, body, *answer in fetch(_RECALL, [asked, chatbot.pk, key.path])
    ]
    if any(body != key.body_digest for _, body, *_ in found):
        raise Refused("idempotency_conflict", "The Idempotency-Key came with another body. Use a new one.")
    recalled = Recalled(digests={digest for digest, *_ in found})
    answer_of = {digest: (request_id, existing) for digest, _, request_id, existing in found}
    answers: dict[int, tuple[UUID, bool]] = {}
    # In the order of the keys, as for one call: what the Idempotency-Key names counts before what the signature does.
    for item_digest, place in place_of.items():
        if item_digest in answer_of:
            answers.setdefault(place, answer_of[item_digest])
    ids = {request_id for request_id, _ in answers.values()}
    requests = {one.pk: one for one in ComplianceRequest.objects.raw(_REQUESTS, [array(ids)])}
    for place, (request_id, existing) in answers.items():
        # Several places can have one answer.
        recalled.requests[place] = copy(requests[request_id])
        recalled.requests[place].existing = existing
    return recalled


def remember(chatbot: Chatbot, key: ReplayKey, recalled: Recalled, answers: Mapping[int, ComplianceRequest]) -> bool:
    """Remember these requests by their items' places, beside what was recalled, in the caller's transaction.

    Return whether all of it was new. If not, another call has come in between: the caller rolls back and recalls.
    """
    known_as = _known_as(chatbot, key, answers)
    wanted = [(one, request) for one, request in known_as if one.digest not in recalled.digests]
    if not wanted:
        return True
    values: dict[str, Any] = {
        "chatbot": chatbot.pk,
        "path": key.path,
        "body": key.body_digest,
        "digests": [one.digest for one, _ in wanted],
        "requests": [request.pk for _, request in wanted],
        "existing": [request.existing for _, request in wanted],
        "kept": [one.expires_in.total_seconds() for one, _ in wanted],
    }
    return len(fetch(_REMEMBER, values)) == len(wanted)


def _known_as(
    chatbot: Chatbot, key: ReplayKey, answers: Mapping[int, ComplianceRequest]
) -> Iterator[tuple[ReplayKey, ComplianceRequest]]:
    places = sorted(answers)
    for one in key.each() if places else ():
        yield one, answers[places[0]]
    for place in places:
        for one in _item(chatbot, key, place):
            yield one, answers[place]


def _item(chatbot: Chatbot, key: ReplayKey, place: int) -> Iterator[ReplayKey]:
    """Yield the keys of an item, in the order of the call's."""
    for one in key.each():
        derived = digest("replay", chatbot.public_id, f"item:{place}:".encode() + one.digest)
        yield ReplayKey(one.path, derived, one.body_digest, one.expires_in)
