"""Choose which requests a worker claims next, in the transaction that makes the claim (ADR 0010)."""

import random
from collections import Counter
from collections.abc import Collection
from typing import Any, NamedTuple, cast
from uuid import UUID

from chatbots.buckets import hosted_storage
from common import leases, proc
from common.db import array, distinct, execute, fetch, lock_until_commit
from compliance.models import ComplianceRequest
from compliance.work.sql import DUE_AT, IS_EARLIER, IS_QUEUED, RUNNABLE
from conversations.placement import by_place, machines

Kind = ComplianceRequest.Kind
Lane = ComplianceRequest.Lane

# Requests per claim in the normal lane. Deletions are erased set-wise: 500 take a fifth less
# than 200 each, and hold intake's lock for some 150 ms. Exports share a snapshot, one COPY and a few transactions.
CLAIM_SIZE = {Kind.EXPORT: 100, Kind.DELETION: 500, Kind.RETENTION: 1, Kind.REDACTION: 1}
# The same in the lane `split`. About the root of 500: one request that makes its claim fail costs 23 claims of this
# lane, and then one for each request of one of these.
SPLIT_SIZE = 22

_LANES = f"""
SELECT k.kind, l.lane FROM unnest(%(kinds)s::text[]) AS k(kind) CROSS JOIN unnest(%(lanes)s::text[]) AS l(lane)
 WHERE EXISTS (SELECT FROM compliance_compliancerequest r WHERE {IS_QUEUED} AND r.kind = k.kind AND r.lane = l.lane)
"""
_CHATBOTS = distinct(
    "compliance_compliancerequest AS r", "r.chatbot_id", f"{IS_QUEUED} AND r.kind = %(kind)s AND r.lane = %(lane)s"
)

# Lanes whose requests can run without calling a client's bucket.
_WORKERS_LANES = [Lane.NORMAL, Lane.SPLIT, Lane.ISOLATED, Lane.LARGE]

# After a restore, a closed chatbot may contain erased data again: nothing of it is exported.
_CLOSED = "SELECT id FROM chatbots_chatbot WHERE closed_at IS NOT NULL"
_NOT_HERE = f"""
SELECT chatbot_id FROM chatbots_bucket WHERE chatbot_id = ANY(%s::bigint[]) AND hosting = 'client'
 UNION ALL
{_CLOSED}
"""
_IS_SILENT = "SELECT FROM chatbots_silentstorage WHERE chatbot_id = %s"
# Exports to clients' buckets, and deletions in the lane for them. One claim at a time per bucket, so that no client
# takes all threads. It starts from the clients' buckets, which are few; a deletion may have one that the chatbot no
# longer has, and then calls none.
_FOR_BUCKETS = f"""
SELECT each.kind, each.lane, array_agg(each.chatbot_id)
  FROM (SELECT 'export' AS kind, l.lane, b.chatbot_id
          FROM chatbots_bucket b CROSS JOIN unnest(%(lanes)s::text[]) AS l(lane)
         WHERE b.hosting = 'client' AND b.chatbot_id NOT IN ({_CLOSED})
           AND EXISTS (SELECT FROM compliance_compliancerequest r
                        WHERE {IS_QUEUED} AND r.kind = 'export' AND r.lane = l.lane AND r.chatbot_id = b.chatbot_id)
         UNION ALL
        SELECT 'deletion', 'client', unnest(%(deleting)s::bigint[])
         UNION ALL
        SELECT 'retention', 'client', unnest(%(expiring)s::bigint[])
         UNION ALL
        SELECT 'redaction', 'client', unnest(%(redacting)s::bigint[])) AS each
 WHERE each.chatbot_id <> ALL(%(busy)s::bigint[])
   AND NOT EXISTS (SELECT FROM compliance_claim c WHERE c.bucket_of_id = each.chatbot_id)
   AND NOT EXISTS (SELECT FROM chatbots_silentstorage s
                    WHERE s.chatbot_id = each.chatbot_id AND s.rests_until > clock_timestamp())
 GROUP BY 1, 2
"""

# The next work for a bucket tries it after its rest. Without work, its state is unknown and no longer reported.
_FORGET_SILENCE = f"""
DELETE FROM chatbots_silentstorage s
 WHERE s.rests_until < clock_timestamp() - interval '10 minutes'
   AND NOT EXISTS (SELECT FROM compliance_compliancerequest r
                    WHERE {IS_QUEUED} AND r.chatbot_id = s.chatbot_id AND (r.kind = 'export' OR r.lane = 'client'))
   AND NOT EXISTS (SELECT FROM conversations_dailyextract d
                    WHERE d.state IN ('pending', 'stale') AND d.chatbot_id = s.chatbot_id)
   AND s.chatbot_id IS NOT NULL
"""

# An equal share per chatbot, in queue order. An earlier runnable request of the same chatter goes first. Exports may
# share a claim with earlier ones that are due too; deletions may not, since one would complete while the earlier one,
# which holds the marks, can still fail. Requests with a common conversation run in order too. `blocked` finds them
# for all at once, and only if there is a request by conversations: otherwise each of 10,000 would search 10,000.
_PICK = f"""
WITH blocked AS MATERIALIZED (
    SELECT id
      FROM (SELECT o.id, o.seq, min(o.seq) OVER (PARTITION BY named.digest) AS first
              FROM compliance_compliancerequest o
             CROSS JOIN LATERAL (
                   SELECT digest FROM compliance_requestsubject WHERE request_id = o.id) AS named
             WHERE o.chatbot_id = ANY(%(chatbots)s::bigint[]) AND o.named_conversations IS NOT NULL
               AND o.status IN {RUNNABLE}) AS each
     WHERE seq > first
)
SELECT picked.id, waiting.chatbot_id
  FROM unnest(%(chatbots)s::bigint[]) AS waiting(chatbot_id)
 CROSS JOIN LATERAL (
    SELECT r.id
      FROM compliance_compliancerequest r
     WHERE {IS_QUEUED} AND r.kind = %(kind)s AND r.lane = %(lane)s
       AND r.chatbot_id = waiting.chatbot_id AND r.id <> ALL(%(picked)s::uuid[])
       AND {DUE_AT} <= statement_timestamp()
       AND NOT EXISTS (SELECT FROM compliance_compliancerequest earlier
                        WHERE {IS_EARLIER} AND earlier.status = 'processing')
       AND NOT EXISTS (
           SELECT FROM compliance_compliancerequest earlier
            WHERE {IS_EARLIER} AND earlier.status = 'accepted'
              AND NOT (%(together)s AND earlier.claim_id IS NULL AND earlier.kind = r.kind
                       AND earlier.lane = r.lane AND coalesce(earlier.not_before, earlier.queued_at) <= {DUE_AT}))
       AND (r.named_conversations IS NULL OR r.id NOT IN (SELECT id FROM blocked))
     ORDER BY {DUE_AT}, r.seq
     LIMIT %(share)s
       FOR UPDATE OF r SKIP LOCKED
 ) AS picked
"""

_CHATBOTS_PER_QUERY = 50

# Held until the claim is made, so that two workers cannot both take the last place.
_LARGE_LANE_LOCK = 0x6463_6C6C  # "dcll"
_RUNNING_LARGE = """
SELECT count(*) FROM compliance_claim
 WHERE is_large AND expires_at > clock_timestamp() AND starts_with(owner, %s)
"""


def claim_size(kind: Kind, lane: Lane) -> int:
    """Return how many requests a claim has at most."""
    return {Lane.NORMAL: CLAIM_SIZE[kind], Lane.SPLIT: min(CLAIM_SIZE[kind], SPLIT_SIZE)}.get(lane, 1)


def waiting_lanes() -> list[tuple[Kind, Lane]]:
    """Return the kinds and lanes with waiting requests that call no client's bucket; some may be blocked."""
    found = set(fetch(_LANES, {"kinds": list(CLAIM_SIZE), "lanes": _WORKERS_LANES}))
    return [(kind, lane) for lane in _WORKERS_LANES for kind in CLAIM_SIZE if (kind, lane) in found]


def waiting_chatbots(kind: Kind, lane: Lane) -> list[int]:
    """Return the chatbots with waiting requests; some may be blocked."""
    return [chatbot_id for (chatbot_id,) in fetch(_CHATBOTS, {"kind": kind, "lane": lane})]


class PickedRequests(NamedTuple):
    """Locked requests of chatbots of one place. `others_wait`: chatbots of other places may have some, too."""

    request_ids: list[UUID]
    others_wait: bool


def pick_requests(kind: Kind, lane: Lane, chatbots: list[int]) -> PickedRequests | None:
    """Lock and return the next requests that call no client's bucket, of chatbots that live in one place.

    Those of a silent machine stay queued.
    """
    chatbots = machines.reachable(chatbots)
    if kind == Kind.EXPORT:
        # By this process' breaker, not the shared state: after a rest, this process may be the one that tries.
        if hosted_storage().calls.breaker.refuses:
            return None
        elsewhere = {chatbot for (chatbot,) in fetch(_NOT_HERE, [array(chatbots)])}
        chatbots = [chatbot for chatbot in chatbots if chatbot not in elsewhere]
    size = claim_size(kind, lane)
    # In a random order of the chatbots, so that the share of each does not depend on how many live in its place.
    shuffled = random.sample(chatbots, len(chatbots))
    places = by_place({chatbot: chatbot for chatbot in shuffled})
    for number, together in enumerate(places, 1):
        if picked := _pick(kind, lane, together, size=size):
            return PickedRequests(picked, others_wait=number < len(places))
    return None


class BucketRequests(NamedTuple):
    """Locked requests that call the bucket of one chatbot's client."""

    chatbot_id: int
    kind: Kind
    lane: Lane
    request_ids: list[UUID]


def pick_bucket(busy: Collection[int]) -> BucketRequests | None:
    """Lock and return the next requests for one client's bucket, picked at random, not of the chatbots in `busy`."""
    values = {
        "lanes": _WORKERS_LANES,
        "deleting": array(waiting_chatbots(Kind.DELETION, Lane.CLIENT)),
        "expiring": array(waiting_chatbots(Kind.RETENTION, Lane.CLIENT)),
        "redacting": array(waiting_chatbots(Kind.REDACTION, Lane.CLIENT)),
        "busy": array(busy),
    }
    lanes = fetch(_FOR_BUCKETS, values)
    for kind_value, lane_value, chatbots in random.sample(lanes, len(lanes)):
        kind, lane = Kind(kind_value), Lane(lane_value)
        chatbot = _one_with_work(kind, lane, machines.reachable(chatbots))
        if chatbot is None:
            continue
        # One request tries a bucket that did not answer; the others stay queued.
        size = 1 if fetch(_IS_SILENT, [chatbot]) else claim_size(kind, lane)
        if picked := _pick(kind, lane, [chatbot], size=size):
            return BucketRequests(chatbot, kind, lane, picked)
    return None


def forget_silence() -> None:
    """Delete the silent state of clients' buckets that have had no work since their rest ended."""
    execute(_FORGET_SILENCE)


def large_lane_has_room() -> bool:
    """Return whether this cluster may run another large claim; hold the lock on that until the transaction ends."""
    lock_until_commit(_LARGE_LANE_LOCK)
    [(running,)] = fetch(_RUNNING_LARGE, [f"{proc.cluster()}:"])
    return int(running) < leases.max_long_workers()


def _one_with_work(kind: Kind, lane: Lane, chatbots: Collection[int]) -> int | None:
    """Return a random chatbot with a request to take."""
    left = random.sample(list(chatbots), len(chatbots))
    while left:
        asked, left = left[:_CHATBOTS_PER_QUERY], left[_CHATBOTS_PER_QUERY:]
        if found := _lock(kind, lane, asked, share=1, picked=[]):
            return random.choice(found)[1]  # noqa: S311  (not a secret)
    return None


def _pick(kind: Kind, lane: Lane, chatbots: list[int], *, size: int) -> list[UUID]:
    """Lock and return up to `size` requests.

    Each chatbot gets an equal share; unused room goes to those that may have more. With more chatbots than
    room, a random sample gets a turn, so that no old backlog delays the others and no state is kept.
    """
    picked: list[UUID] = []
    left = random.sample(chatbots, len(chatbots))
    while left and len(picked) < size:
        room = size - len(picked)
        # Search many chatbots even for one request: most may have only blocked ones.
        step = max(room, _CHATBOTS_PER_QUERY)
        asked, left = left[:step], left[step:]
        share = -(-room // len(asked))
        found = _lock(kind, lane, asked, share=share, picked=picked)
        picked += [request_id for request_id, _ in found]
        given = Counter(chatbot for _, chatbot in found)
        left += [chatbot for chatbot in asked if given[chatbot] == share]
    return picked[:size]


def _lock(kind: Kind, lane: Lane, chatbots: list[int], *, share: int, picked: list[UUID]) -> list[tuple[UUID, int]]:
    """Lock up to `share` more requests of each chatbot; return them with their chatbots."""
    values: dict[str, Any] = {
        "kind": kind,
        "lane": lane,
        "chatbots": array(chatbots),
        "share": share,
        "picked": array(picked),
        "together": kind == Kind.EXPORT and lane in {Lane.NORMAL, Lane.SPLIT},
    }
    return cast("list[tuple[UUID, int]]", fetch(_PICK, values))
