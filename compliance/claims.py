"""Take, keep and give back a claim on requests.

A claim is a row that one worker made; its requests point to it. Whoever wants to write for them locks that row
by id and token first, in the same transaction (`HeldClaim.bite`). A claim that expired is broken up by deleting
the row, so a worker that slept through its lease finds nothing to lock and writes nothing more.

All times are the database's clock: two workers whose clocks differ agree on what has expired.
"""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import cast
from uuid import UUID, uuid4

from django.db import connection, transaction

from chatbots import changelog
from compliance.errors import ClaimLost
from compliance.models import Claim, ComplianceRequest

# Long enough for the slowest single step (a storage call with its retries), short enough that a killed
# worker's requests are taken up again soon.
LEASE_SECONDS = 120
MAX_ATTEMPTS = 5

# How many requests one claim takes. Deletions are erased set-wise: 100 to 200 chatters a transaction measure
# best, since with more the planner turns to scanning. Exports are files, one after the other.
CLAIM_SIZE = {ComplianceRequest.Kind.DELETION: 100, ComplianceRequest.Kind.EXPORT: 10}

_KEEP = """
UPDATE compliance_claim SET expires_at = clock_timestamp() + make_interval(secs => %s)
 WHERE id = %s AND token = %s RETURNING clock_timestamp()
"""

# The chatbots that have something waiting, by skipping along the index instead of reading all that waits.
_WAITING_CHATBOTS = """
WITH RECURSIVE waiting(chatbot_id) AS (
    (SELECT chatbot_id FROM compliance_compliancerequest
      WHERE status = 'accepted' AND claim_id IS NULL AND kind = %(kind)s AND alone = %(alone)s
      ORDER BY chatbot_id LIMIT 1)
    UNION ALL
    SELECT (SELECT r.chatbot_id FROM compliance_compliancerequest r
             WHERE r.status = 'accepted' AND r.claim_id IS NULL AND r.kind = %(kind)s AND r.alone = %(alone)s
               AND r.chatbot_id > w.chatbot_id ORDER BY r.chatbot_id LIMIT 1)
      FROM waiting w WHERE w.chatbot_id IS NOT NULL
)
SELECT chatbot_id FROM waiting WHERE chatbot_id IS NOT NULL
"""

# A fair share per chatbot, in the order of the line. An earlier request of the same chatter that is accepted or
# under way goes first: the later one is not taken while it lives.
_PICK = """
SELECT picked.id
  FROM unnest(%(chatbots)s::bigint[]) AS waiting(chatbot_id)
 CROSS JOIN LATERAL (
    SELECT r.id, r.queued_at, r.seq
      FROM compliance_compliancerequest r
     WHERE r.status = 'accepted' AND r.claim_id IS NULL AND r.kind = %(kind)s
       AND r.chatbot_id = waiting.chatbot_id AND r.alone = %(alone)s
       AND (r.not_before IS NULL OR r.not_before <= clock_timestamp())
       AND NOT EXISTS (
           SELECT 1 FROM compliance_compliancerequest earlier
            WHERE earlier.variable_id = r.variable_id AND earlier.uci_digest = r.uci_digest
              AND earlier.seq < r.seq AND earlier.status IN ('accepted', 'processing'))
     ORDER BY r.queued_at, r.seq
     LIMIT %(share)s
       FOR UPDATE OF r SKIP LOCKED
 ) AS picked
 ORDER BY picked.queued_at, picked.seq
 LIMIT %(size)s
"""

_MAKE = """
INSERT INTO compliance_claim (owner, token, expires_at)
VALUES (%s, %s, clock_timestamp() + make_interval(secs => %s)) RETURNING id
"""

_BREAK_EXPIRED = """
WITH lost AS (
    DELETE FROM compliance_claim WHERE id IN (
        SELECT id FROM compliance_claim WHERE expires_at < clock_timestamp() FOR UPDATE SKIP LOCKED
    ) RETURNING id
)
UPDATE compliance_compliancerequest r
   SET claim_id = NULL, attempts = r.attempts + 1, alone = TRUE,
       status = CASE WHEN r.attempts + 1 >= %(most)s THEN 'failed' ELSE 'accepted' END,
       failed_at = CASE WHEN r.attempts + 1 >= %(most)s THEN clock_timestamp() END,
       error_code = 'worker_lost',
       error_detail = 'The worker stopped in the middle of the work. Look at its logs, then retry.'
  FROM lost WHERE r.claim_id = lost.id
RETURNING r.id, r.chatbot_id, r.attempts, r.status
"""


@dataclass(frozen=True)
class HeldClaim:
    """A claim in the hands of the worker that took it."""

    id: int
    token: UUID
    kind: str
    request_ids: tuple[UUID, ...]

    @property
    def is_full(self) -> bool:
        return len(self.request_ids) == CLAIM_SIZE[ComplianceRequest.Kind(self.kind)]

    @contextmanager
    def bite(self) -> Iterator[datetime]:
        """Open a transaction that holds the claim, renew it, and yield the database's time.

        Everything written for the claim's requests is written in such a transaction. Raises ClaimLost when
        the claim is no longer ours; the transaction then writes nothing.
        """
        with transaction.atomic():
            yield self._lock()

    def keep(self) -> None:
        """Renew the lease between two steps that write nothing to the database. Raises ClaimLost."""
        with transaction.atomic():
            self._lock()

    def let_go(self) -> None:
        """End the claim. Requests that still point to it go back to the line, without a lost attempt."""
        with self.bite():
            ComplianceRequest.objects.filter(claim=self.id).update(
                claim=None, status=ComplianceRequest.Status.ACCEPTED
            )
            Claim.objects.filter(pk=self.id).delete()

    def _lock(self) -> datetime:
        with connection.cursor() as cursor:
            cursor.execute(_KEEP, [LEASE_SECONDS, self.id, self.token])
            row = cursor.fetchone()
        if row is None:
            raise ClaimLost
        return cast("datetime", row[0])


def take(kind: ComplianceRequest.Kind, *, single_first: bool = False) -> HeldClaim | None:
    """Claim the next requests of a kind, or return None when nothing can be taken.

    What failed or was lost in a claim before is taken by itself, so that a poison request costs no other its
    attempts. `single_first` prefers such a one: a worker asks so every other time, or a steady flow of new
    requests would keep them waiting for ever.
    """
    if single_first:
        return _take(kind, size=1, alone=True) or _take(kind, size=CLAIM_SIZE[kind], alone=False)
    return _take(kind, size=CLAIM_SIZE[kind], alone=False) or _take(kind, size=1, alone=True)


def _take(kind: ComplianceRequest.Kind, *, size: int, alone: bool) -> HeldClaim | None:
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(_WAITING_CHATBOTS, {"kind": kind, "alone": alone})
        chatbots = [row[0] for row in cursor.fetchall()]
        if not chatbots:
            return None
        share = max(1, -(-size // len(chatbots)))
        cursor.execute(_PICK, {"chatbots": chatbots, "kind": kind, "alone": alone, "share": share, "size": size})
        ids = tuple(row[0] for row in cursor.fetchall())
        if not ids:
            return None
        token = uuid4()
        cursor.execute(_MAKE, [f"{socket.gethostname()}:{os.getpid()}", token, LEASE_SECONDS])
        (claim_id,) = cursor.fetchone()
        ComplianceRequest.objects.filter(pk__in=ids).update(claim=claim_id)
    return HeldClaim(id=claim_id, token=token, kind=kind, request_ids=ids)


def break_expired() -> int:
    """Put the requests of expired claims back into the line, each to be taken alone; return how many.

    A claim whose worker is in the middle of a bite is locked and left: it renews itself.
    """
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute(_BREAK_EXPIRED, {"most": MAX_ATTEMPTS})
            lost = cursor.fetchall()
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
