"""The line: which requests may be taken next, and in which order. Read in the transaction that makes the claim."""

import random
from collections import Counter
from collections.abc import Collection
from typing import Any, NamedTuple, cast
from uuid import UUID

from django.conf import settings
from django.db.backends.utils import CursorWrapper

from chatbots.buckets import hosted_storage
from common import proc
from common.arrays import array
from common.db import execute, fetch
from compliance.models import ComplianceRequest

Lane = ComplianceRequest.Lane

# How many requests one claim takes of the normal lane; of the others it is one. Deletions are erased set-wise: 500
# take a fifth less than 200 each, and hold intake's lock for some 150 ms. Exports share a snapshot, one COPY and a
# few transactions.
CLAIM_SIZE = {ComplianceRequest.Kind.EXPORT: 100, ComplianceRequest.Kind.DELETION: 500}

# Where something waits, by skipping along the index instead of reading all that waits.
_LANES = """
SELECT k.kind, l.lane FROM unnest(%(kinds)s::text[]) AS k(kind) CROSS JOIN unnest(%(lanes)s::text[]) AS l(lane)
 WHERE EXISTS (SELECT 1 FROM compliance_compliancerequest r
                WHERE r.status = 'accepted' AND r.claim_id IS NULL AND r.kind = k.kind AND r.lane = l.lane)
"""
_CHATBOTS = """
WITH RECURSIVE waiting(chatbot_id) AS (
    (SELECT chatbot_id FROM compliance_compliancerequest
      WHERE status = 'accepted' AND claim_id IS NULL AND kind = %(kind)s AND lane = %(lane)s
      ORDER BY chatbot_id LIMIT 1)
    UNION ALL
    SELECT (SELECT r.chatbot_id FROM compliance_compliancerequest r
             WHERE r.status = 'accepted' AND r.claim_id IS NULL AND r.kind = %(kind)s AND r.lane = %(lane)s
               AND r.chatbot_id > w.chatbot_id ORDER BY r.chatbot_id LIMIT 1)
      FROM waiting w WHERE w.chatbot_id IS NOT NULL
)
SELECT chatbot_id FROM waiting WHERE chatbot_id IS NOT NULL
"""

# Of what calls no client's bucket.
_WORKERS_LANES = [Lane.NORMAL, Lane.ISOLATED, Lane.LARGE]

_IN_CLIENTS_BUCKETS = """
SELECT chatbot_id FROM chatbots_bucket WHERE chatbot_id = ANY(%s::bigint[]) AND hosting = 'client'
"""
_IS_SILENT = "SELECT EXISTS (SELECT FROM chatbots_silentstorage WHERE chatbot_id = %s)"
# Where exports wait to go to a client's bucket, and deletions that have to call one. One claim at a time does, so no
# client has all the threads. From the clients' buckets, which are few beside all that wait; a deletion may have been
# told to call one that is no longer the chatbot's, and calls nobody then.
_FOR_BUCKETS = """
SELECT each.kind, each.lane, array_agg(each.chatbot_id)
  FROM (SELECT 'export' AS kind, l.lane, b.chatbot_id
          FROM chatbots_bucket b CROSS JOIN unnest(%(lanes)s::text[]) AS l(lane)
         WHERE b.hosting = 'client'
           AND EXISTS (SELECT FROM compliance_compliancerequest r
                        WHERE r.status = 'accepted' AND r.claim_id IS NULL AND r.kind = 'export' AND r.lane = l.lane
                          AND r.chatbot_id = b.chatbot_id)
         UNION ALL
        SELECT 'deletion', 'client', unnest(%(deleting)s::bigint[])) AS each
 WHERE each.chatbot_id <> ALL(%(busy)s::bigint[])
   AND NOT EXISTS (SELECT FROM compliance_claim c WHERE c.bucket_of_id = each.chatbot_id)
   AND NOT EXISTS (SELECT FROM chatbots_silentstorage s
                    WHERE s.chatbot_id = each.chatbot_id AND s.rests_until > clock_timestamp())
 GROUP BY 1, 2
"""

# Whoever needs one tries it when its rest is over. Where nobody did, it may be well again or gone, and is told of.
_FORGET_SILENCE = """
DELETE FROM chatbots_silentstorage s
 WHERE s.rests_until < clock_timestamp() - interval '10 minutes'
   AND NOT EXISTS (SELECT FROM compliance_compliancerequest r
                    WHERE r.status = 'accepted' AND r.claim_id IS NULL AND r.chatbot_id = s.chatbot_id
                      AND (r.kind = 'export' OR r.lane = 'client'))
   AND NOT EXISTS (SELECT FROM conversations_dailyextract d
                    WHERE d.state IN ('pending', 'stale') AND d.chatbot_id = s.chatbot_id)
   AND s.chatbot_id IS NOT NULL
"""

# A share for each chatbot, in the order of its line. An earlier request of the same chatter that is accepted or
# under way goes first. Exports of one chatter may come along with an earlier one whose turn it is too; a deletion
# may not, since it would be complete while the earlier one, which bears the marks, can still fail.
# Requests by conversations that have one in common go one after the other. Who is first is found for all at once, and
# not before one of them is met: a conversation that 10,000 name would else be looked up in 10,000 for each of them.
_PICK = """
WITH blocked AS MATERIALIZED (
    SELECT id
      FROM (SELECT o.id, o.seq, min(o.seq) OVER (PARTITION BY named.digest) AS first
              FROM compliance_compliancerequest o
             CROSS JOIN LATERAL unnest(o.conversation_digests) AS named(digest)
             WHERE o.chatbot_id = ANY(%(chatbots)s::bigint[]) AND o.conversation_digests IS NOT NULL
               AND o.status IN ('accepted', 'processing')) AS each
     WHERE seq > first
)
SELECT picked.id, waiting.chatbot_id
  FROM unnest(%(chatbots)s::bigint[]) AS waiting(chatbot_id)
 CROSS JOIN LATERAL (
    SELECT r.id
      FROM compliance_compliancerequest r
     WHERE r.status = 'accepted' AND r.claim_id IS NULL AND r.kind = %(kind)s AND r.lane = %(lane)s
       AND r.chatbot_id = waiting.chatbot_id AND r.id <> ALL(%(picked)s::uuid[])
       AND coalesce(r.not_before, r.queued_at) <= statement_timestamp()
       AND NOT EXISTS (
           SELECT 1 FROM compliance_compliancerequest earlier
            WHERE earlier.variable_id = r.variable_id AND earlier.uci_digest = r.uci_digest
              AND earlier.seq < r.seq AND earlier.status = 'processing')
       AND NOT EXISTS (
           SELECT 1 FROM compliance_compliancerequest earlier
            WHERE earlier.variable_id = r.variable_id AND earlier.uci_digest = r.uci_digest
              AND earlier.seq < r.seq AND earlier.status = 'accepted'
              AND NOT (%(together)s AND earlier.claim_id IS NULL AND earlier.kind = r.kind
                       AND earlier.lane = r.lane
                       AND coalesce(earlier.not_before, earlier.queued_at) <= coalesce(r.not_before, r.queued_at)))
       AND (r.conversation_digests IS NULL OR r.id NOT IN (SELECT id FROM blocked))
     ORDER BY coalesce(r.not_before, r.queued_at), r.seq
     LIMIT %(share)s
       FOR UPDATE OF r SKIP LOCKED
 ) AS picked
"""

_ASKED_AT_ONCE = 50

# One worker at a time looks whether the large lane has room, and takes it.
_LARGE_LANE_LOCK = 0x6463_6C6C  # "dcll"
_LARGE_AT_WORK = """
SELECT count(*) FROM compliance_claim
 WHERE is_large AND expires_at > clock_timestamp() AND starts_with(owner, %s)
"""


def waiting_lanes() -> list[tuple[ComplianceRequest.Kind, Lane]]:
    """Return the kinds and lanes in which requests wait, the normal lane first.

    Not all of them can be taken, and none of those that call a client's bucket.
    """
    found = {
        (ComplianceRequest.Kind(kind), Lane(lane))
        for kind, lane in fetch(_LANES, {"kinds": list(CLAIM_SIZE), "lanes": _WORKERS_LANES})
    }
    return [(kind, lane) for lane in _WORKERS_LANES for kind in CLAIM_SIZE if (kind, lane) in found]


def waiting_chatbots(cursor: CursorWrapper, kind: ComplianceRequest.Kind, lane: Lane) -> list[int]:
    """Return the chatbots of which something waits. Not all of it can be taken."""
    cursor.execute(_CHATBOTS, {"kind": kind, "lane": lane})
    return [row[0] for row in cursor.fetchall()]


def pick_requests(cursor: CursorWrapper, kind: ComplianceRequest.Kind, lane: Lane, chatbots: list[int]) -> list[UUID]:
    """Lock the next requests that call no client's bucket, and return them."""
    if kind == ComplianceRequest.Kind.EXPORT:
        # Not what all know: after a rest this process may be the one that tries.
        if hosted_storage().calls.breaker.refuses:
            return []
        cursor.execute(_IN_CLIENTS_BUCKETS, [array(chatbots)])
        clients = {row[0] for row in cursor.fetchall()}
        chatbots = [chatbot for chatbot in chatbots if chatbot not in clients]
    return _pick(cursor, kind, lane, chatbots)


class BucketRequests(NamedTuple):
    """Requests that call the bucket of a chatbot's client, locked."""

    chatbot_id: int
    kind: ComplianceRequest.Kind
    lane: Lane
    request_ids: list[UUID]


def pick_bucket(cursor: CursorWrapper, busy: Collection[int]) -> BucketRequests | None:
    """Lock the next requests that call one client's bucket, which is drawn by lot. Not of the chatbots in `busy`."""
    deleting = waiting_chatbots(cursor, ComplianceRequest.Kind.DELETION, Lane.CLIENT)
    values: dict[str, Any] = {"lanes": _WORKERS_LANES, "deleting": array(deleting), "busy": array(busy)}
    cursor.execute(_FOR_BUCKETS, values)
    lines = [(ComplianceRequest.Kind(kind), Lane(lane), chatbots) for kind, lane, chatbots in cursor.fetchall()]
    for kind, lane, chatbots in random.sample(lines, len(lines)):
        one = _one_that_can(cursor, kind, lane, chatbots)
        if one is None:
            continue
        # Of a bucket that did not answer one tries, and the others stay in the line.
        cursor.execute(_IS_SILENT, [one])
        if picked := _pick(cursor, kind, lane, [one], most=1 if cursor.fetchone()[0] else None):
            return BucketRequests(one, kind, lane, picked)
    return None


def forget_silence() -> None:
    """Forget of clients' buckets that they did not answer, where nobody has tried for long and nothing waits."""
    execute(_FORGET_SILENCE)


def _one_that_can(
    cursor: CursorWrapper, kind: ComplianceRequest.Kind, lane: Lane, chatbots: Collection[int]
) -> int | None:
    """Return one of the chatbots that have something to take, by lot."""
    left = random.sample(list(chatbots), len(chatbots))
    while left:
        asked, left = left[:_ASKED_AT_ONCE], left[_ASKED_AT_ONCE:]
        found = _ask(cursor, kind, lane, asked, share=1, picked=[])
        if found:
            return random.choice(found)[1]  # noqa: S311  (a lot, not a secret)
    return None


def _pick(
    cursor: CursorWrapper,
    kind: ComplianceRequest.Kind,
    lane: Lane,
    chatbots: list[int],
    *,
    most: int | None = None,
) -> list[UUID]:
    """Lock the next requests, `most` or as many as a claim has room for, and return them.

    Each chatbot gives an equal share; what some could not give (theirs must wait) is asked of those that may have
    more. Where there are more chatbots than room, who gets a turn is drawn by lot: so nobody's backlog, however
    old, keeps another waiting for long, and nothing needs to be remembered.
    """
    size = most or (CLAIM_SIZE[kind] if lane is Lane.NORMAL else 1)
    picked: list[UUID] = []
    left = random.sample(chatbots, len(chatbots))
    while left and len(picked) < size:
        room = size - len(picked)
        # Where one is wanted, many are asked all the same: most may have nothing that can be taken.
        asked, left = left[: max(room, _ASKED_AT_ONCE)], left[max(room, _ASKED_AT_ONCE) :]
        share = -(-room // len(asked))
        found = _ask(cursor, kind, lane, asked, share=share, picked=picked)
        picked += [request_id for request_id, _ in found]
        given = Counter(chatbot for _, chatbot in found)
        left += [chatbot for chatbot in asked if given[chatbot] == share]
    return picked[:size]


def _ask(
    cursor: CursorWrapper,
    kind: ComplianceRequest.Kind,
    lane: Lane,
    chatbots: list[int],
    *,
    share: int,
    picked: list[UUID],
) -> list[tuple[UUID, int]]:
    """Lock up to `share` requests of each chatbot beside those picked; return them with their chatbots."""
    values: dict[str, Any] = {
        "kind": kind,
        "lane": lane,
        "chatbots": array(chatbots),
        "share": share,
        "picked": array(picked),
        "together": kind == ComplianceRequest.Kind.EXPORT and lane is Lane.NORMAL,
    }
    cursor.execute(_PICK, values)
    return cast("list[tuple[UUID, int]]", cursor.fetchall())


def large_lane_has_room(cursor: CursorWrapper) -> bool:
    """Say whether one more large claim may be at work in this cluster; keep others from asking until the end."""
    cursor.execute("SELECT pg_advisory_xact_lock(%s)", [_LARGE_LANE_LOCK])
    cursor.execute(_LARGE_AT_WORK, [f"{proc.cluster()}:"])
    at_work: int = cursor.fetchone()[0]
    return at_work < max(1, int(str(settings.Q_CLUSTER["workers"])) - 1)
