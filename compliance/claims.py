"""Take, keep and give back a claim on requests.

A claim is a row that one worker made; its requests point to it. Whoever wants to write for them locks that row
by id and token first, in the same transaction (`HeldClaim.bite`). A claim that expired is broken up by deleting
the row, so a worker that slept through its lease finds nothing to lock and writes nothing more.

All times are the database's clock: two workers whose clocks differ agree on what has expired.
"""

import os
import random
import socket
from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, cast
from uuid import UUID, uuid4

from django.conf import settings
from django.db import connection, transaction
from django.db.backends.utils import CursorWrapper

from chatbots import changelog
from compliance.callbacks.announcing import announce
from compliance.errors import ClaimLost
from compliance.models import ComplianceRequest
from config.arrays import array

Lane = ComplianceRequest.Lane

# Long enough for the slowest single step (a storage call with its retries), short enough that a killed
# worker's requests are taken up again soon.
LEASE_SECONDS = 120
MAX_ATTEMPTS = 5

# How many requests one claim takes of the normal lane; of the others it is one. Deletions are erased set-wise: 500
# take a fifth less than 200 each, and hold intake's lock for some 150 ms. Exports share a snapshot, one COPY and a
# few bites.
CLAIM_SIZE = {ComplianceRequest.Kind.EXPORT: 100, ComplianceRequest.Kind.DELETION: 500}

# Claims and bites find their rows by key. Without statistics (a table just filled), or with a thousand keys at
# once, the planner turns to reading whole tables; so it may not, until the transaction ends.
BY_INDEX = """
set_config('enable_seqscan', 'off', TRUE), set_config('enable_hashjoin', 'off', TRUE),
set_config('enable_mergejoin', 'off', TRUE), set_config('enable_material', 'off', TRUE)
"""
_KEEP = f"""
UPDATE compliance_claim SET expires_at = clock_timestamp() + make_interval(secs => %s)
 WHERE id = %s AND token = %s RETURNING clock_timestamp(), {BY_INDEX}
"""  # noqa: S608  (a constant of ours)

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

_IN_CLIENTS_BUCKETS = """
SELECT chatbot_id FROM chatbots_bucket WHERE chatbot_id = ANY(%s::bigint[]) AND hosting = 'client'
"""

# A share for each chatbot, in the order of its line. An earlier request of the same chatter that is accepted or
# under way goes first. Exports of one chatter may come along with an earlier one whose turn it is too; a deletion
# may not, since it would be complete while the earlier one, which bears the marks, can still fail.
_PICK = """
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
     ORDER BY coalesce(r.not_before, r.queued_at), r.seq
     LIMIT %(share)s
       FOR UPDATE OF r SKIP LOCKED
 ) AS picked
"""

# Whoever was picked to come along with an earlier one that another worker has just taken is left.
_MAKE = """
WITH made AS (
    INSERT INTO compliance_claim (owner, token, is_large, expires_at)
    VALUES (%(owner)s, %(token)s, %(large)s, clock_timestamp() + make_interval(secs => %(lease)s)) RETURNING id
)
UPDATE compliance_compliancerequest r SET claim_id = made.id
  FROM made
 WHERE r.id = ANY(%(picked)s::uuid[])
   AND NOT EXISTS (
       SELECT 1 FROM compliance_compliancerequest earlier
        WHERE earlier.variable_id = r.variable_id AND earlier.uci_digest = r.uci_digest
          AND earlier.seq < r.seq AND earlier.status IN ('accepted', 'processing')
          AND earlier.id <> ALL(%(picked)s::uuid[]))
RETURNING r.id, made.id
"""

_ASKED_AT_ONCE = 50

# One worker at a time looks whether the large lane has room, and takes it.
_LARGE_LANE_LOCK = 0x6463_6C6C  # "dcll"
_LARGE_AT_WORK = """
SELECT count(*) FROM compliance_claim
 WHERE is_large AND expires_at > clock_timestamp() AND starts_with(owner, %s)
"""

_BREAK_EXPIRED = """
WITH lost AS (
    DELETE FROM compliance_claim WHERE id IN (
        SELECT id FROM compliance_claim WHERE expires_at < clock_timestamp() FOR UPDATE SKIP LOCKED
    ) RETURNING id
)
UPDATE compliance_compliancerequest r
   SET claim_id = NULL, attempts = r.attempts + 1,
       lane = CASE WHEN r.lane = 'large' THEN r.lane ELSE 'alone' END,
       status = CASE WHEN r.attempts + 1 >= %(most)s THEN 'failed' ELSE 'accepted' END,
       failed_at = CASE WHEN r.attempts + 1 >= %(most)s THEN clock_timestamp() END,
       error_code = 'worker_lost',
       error_detail = 'The worker stopped in the middle of the work. Look at its logs, then retry.'
 WHERE r.claim_id = ANY(ARRAY(SELECT id FROM lost))
RETURNING r.id, r.chatbot_id, r.attempts, r.status
"""


@dataclass
class HeldClaim:
    """A claim in the hands of the worker that took it."""

    id: int
    token: UUID
    kind: ComplianceRequest.Kind
    lane: Lane
    request_ids: tuple[UUID, ...]
    is_large: bool = False  # counts against the limit of the large lane
    _now: datetime | None = field(default=None, init=False)  # while a bite is open
    _is_over: bool = field(default=False, init=False)

    @property
    def leaves_others(self) -> bool:
        """Say whether more may wait than this worker can see to: the claim is full, or will take long."""
        return self.is_large or len(self.request_ids) == CLAIM_SIZE[self.kind]

    @contextmanager
    def bite(self) -> Iterator[datetime]:
        """Open a transaction that holds the claim, renew it, and yield the database's time.

        Everything written for the claim's requests is written in such a transaction, and its rows are found by
        index. A bite within a bite is part of it. Raises ClaimLost when the claim is no longer ours; the
        transaction then writes nothing.
        """
        if self._now:
            yield self._now
            return
        try:
            with transaction.atomic():
                self._now = self._lock()
                try:
                    yield self._now
                finally:
                    self._now = None
        except BaseException:
            # Nothing of it was written, nor the end of the claim.
            self._is_over = False
            raise

    def keep(self) -> None:
        """Renew the lease between two steps that write nothing to the database. Raises ClaimLost."""
        with transaction.atomic():
            self._lock()

    def let_go(self) -> None:
        """End the claim. Requests that still point to it go back to the line, without a lost attempt.

        To do so again does nothing: who lets go in the last bite saves a transaction.
        """
        if self._is_over:
            return
        with self.bite(), connection.cursor() as cursor:
            cursor.execute(
                "UPDATE compliance_compliancerequest SET claim_id = NULL, status = 'accepted' WHERE claim_id = %s",
                [self.id],
            )
            cursor.execute("DELETE FROM compliance_claim WHERE id = %s", [self.id])
        self._is_over = True

    def _lock(self) -> datetime:
        with connection.cursor() as cursor:
            cursor.execute(_KEEP, [LEASE_SECONDS, self.id, self.token])
            row = cursor.fetchone()
        if row is None:
            raise ClaimLost
        return cast("datetime", row[0])


def waiting() -> list[tuple[ComplianceRequest.Kind, Lane]]:
    """Return the kinds and lanes in which requests wait, the normal lane first. Not all of them can be taken."""
    with connection.cursor() as cursor:
        cursor.execute(_LANES, {"kinds": list(CLAIM_SIZE), "lanes": list(Lane)})
        found = {(ComplianceRequest.Kind(kind), Lane(lane)) for kind, lane in cursor.fetchall()}
    return [(kind, lane) for lane in Lane for kind in CLAIM_SIZE if (kind, lane) in found]


def take(kind: ComplianceRequest.Kind, lane: Lane = Lane.NORMAL) -> HeldClaim | None:
    """Claim the next requests of a kind, or return None when nothing can be taken.

    Of the normal lane many at once, a fair share for each chatbot. What failed or was lost in a claim before is
    taken by itself, so that a poison request costs no other its attempts; and so is what is large, which all but
    one of a cluster's workers may be at work on at a time: one is always left for the others. Exports of one claim
    go to one storage. A client's bucket may be slow or dead, so whatever goes there counts as large.
    """
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(_CHATBOTS, {"kind": kind, "lane": lane})
        chatbots = [row[0] for row in cursor.fetchall()]
        if not chatbots or (lane is Lane.LARGE and not _large_lane_has_room(cursor)):
            return None
        cursor.execute(f"SELECT {BY_INDEX}")
        picked, is_large = _draw(cursor, kind, lane, chatbots)
        if not picked:
            return None
        token = uuid4()
        values: dict[str, Any] = {
            "owner": f"{_cluster()}{os.getpid()}",
            "token": token,
            "large": is_large,
            "lease": LEASE_SECONDS,
            "picked": array(picked),
        }
        cursor.execute(_MAKE, values)
        made = cursor.fetchall()
        if not made:
            # All of them wait for one that another worker is taking right now.
            transaction.set_rollback(True)
            return None
    ids = {request_id for request_id, _ in made}
    taken = tuple(each for each in picked if each in ids)
    return HeldClaim(made[0][1], token, kind, lane, taken, is_large=is_large)


def _draw(
    cursor: CursorWrapper, kind: ComplianceRequest.Kind, lane: Lane, chatbots: list[int]
) -> tuple[list[UUID], bool]:
    """Lock the next requests, and return them and whether they count as large.

    Exports are drawn by lot: those of the hosted bucket together, or those of one client's bucket. The hosted ones
    have a lot for each claim that a turn for all their chatbots takes, so nobody's turns are rarer than another's.
    """
    if kind != ComplianceRequest.Kind.EXPORT:
        return _pick(cursor, kind, lane, chatbots), lane is Lane.LARGE
    cursor.execute(_IN_CLIENTS_BUCKETS, [array(chatbots)])
    clients = {row[0] for row in cursor.fetchall()}
    hosted = [chatbot for chatbot in chatbots if chatbot not in clients]
    if not clients:
        return _pick(cursor, kind, lane, hosted), lane is Lane.LARGE
    hosted_lots = -(-len(hosted) // (CLAIM_SIZE[kind] if lane is Lane.NORMAL else 1))
    to_clients = random.randrange(hosted_lots + len(clients)) >= hosted_lots  # noqa: S311  (a lot, not a secret)
    # Where nothing of the one can be taken, of the other.
    for client_turn in (to_clients, not to_clients):
        if client_turn and (lane is Lane.LARGE or _large_lane_has_room(cursor)):
            picked = _pick(cursor, kind, lane, _one_that_can(cursor, kind, lane, clients))
            if picked:
                return picked, True
        elif not client_turn:
            picked = _pick(cursor, kind, lane, hosted)
            if picked:
                return picked, lane is Lane.LARGE
    return [], False


def _one_that_can(
    cursor: CursorWrapper, kind: ComplianceRequest.Kind, lane: Lane, chatbots: Collection[int]
) -> list[int]:
    """Return one of the chatbots that have something to take, by lot, or none."""
    left = random.sample(list(chatbots), len(chatbots))
    while left:
        asked, left = left[:_ASKED_AT_ONCE], left[_ASKED_AT_ONCE:]
        found = _ask(cursor, kind, lane, asked, share=1, picked=[])
        if found:
            return [random.choice(found)[1]]  # noqa: S311  (a lot, not a secret)
    return []


def _pick(cursor: CursorWrapper, kind: ComplianceRequest.Kind, lane: Lane, chatbots: list[int]) -> list[UUID]:
    """Lock the next requests, as many as a claim has room for, and return them.

    Each chatbot gives an equal share; what some could not give (theirs must wait) is asked of those that may have
    more. Where there are more chatbots than room, who gets a turn is drawn by lot: so nobody's backlog, however
    old, keeps another waiting for long, and nothing needs to be remembered.
    """
    size = CLAIM_SIZE[kind] if lane is Lane.NORMAL else 1
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


def _large_lane_has_room(cursor: CursorWrapper) -> bool:
    cursor.execute("SELECT pg_advisory_xact_lock(%s)", [_LARGE_LANE_LOCK])
    cursor.execute(_LARGE_AT_WORK, [_cluster()])
    at_work: int = cursor.fetchone()[0]
    return at_work < max(1, int(str(settings.Q_CLUSTER["workers"])) - 1)


def _cluster() -> str:
    """How the owners of this cluster's claims begin: its workers have one parent."""
    return f"{socket.gethostname()}:{os.getppid()}:"


def break_expired() -> int:
    """Put the requests of expired claims back into the line, each to be taken alone; return how many.

    A claim whose worker is in the middle of a bite is locked and left: it renews itself.
    """
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute(_BREAK_EXPIRED, {"most": MAX_ATTEMPTS})
            lost = cursor.fetchall()
        announce([request_id for request_id, _, _, status in lost if status == "failed"])
        changelog.record_all(
            [
                changelog.entry(
                    "request.failed" if status == "failed" else "request.given_back",
                    chatbot_id=chatbot_id,
                    request_id=request_id,
                    actor="worker",
                    data={"code": "worker_lost", "attempts": attempts},
                )
                for request_id, chatbot_id, attempts, status in lost
            ]
        )
    return len(lost)
