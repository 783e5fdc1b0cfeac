"""Take, renew and release a claim on requests.

A claim is a row of one worker; its requests point to it. To write for them, a worker first locks that row by id and
token in the same transaction (`HeldClaim.transaction`). An expired claim is ended by deleting the row, so a worker
that slept through its lease finds nothing to lock and writes nothing more.

All times are the database's, so workers whose clocks differ agree on what has expired.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, TypeVar, cast
from uuid import UUID, uuid4

from django.db import transaction

from chatbots import changelog
from common import proc
from common.db import array, execute, fetch, fetch_one
from common.leases import LEASE_END
from compliance.errors import ClaimLost
from compliance.models import Claim, ComplianceRequest
from compliance.work import scheduling
from compliance.work.outbox import announce
from compliance.work.sql import DUE_AT, IS_EARLIER, IS_OPEN, IS_QUEUED, RUNNABLE, SHARING
from conversations import locks, placement

Kind = ComplianceRequest.Kind
Lane = ComplianceRequest.Lane

_Done = TypeVar("_Done")

# Longer than the longest stretch without a renewal: a storage call with its retries, and the time between two
# renewals (common/leases.py). It only has to run out when the whole machine or container of a worker is gone: a
# cluster requeues the claims of its own dead workers at once (compliance/cluster/supervision.py).
LEASE_SECONDS = 90
MAX_ATTEMPTS = 5

_RENEW = f"""
UPDATE compliance_claim SET expires_at = {LEASE_END}
 WHERE id = %(id)s AND token = %(token)s RETURNING clock_timestamp()
"""

# Skip requests whose predecessor was just claimed by another worker.
_CLAIM = f"""
WITH made AS (
    INSERT INTO compliance_claim (owner, token, is_large, bucket_of_id, expires_at)
    SELECT %(owner)s, %(token)s::uuid, %(large)s, %(bucket_of)s::bigint, {LEASE_END} WHERE {IS_OPEN}
        ON CONFLICT (bucket_of_id) DO NOTHING
    RETURNING id
)
UPDATE compliance_compliancerequest r SET claim_id = made.id
  FROM made
 WHERE r.id = ANY(%(picked)s::uuid[])
   AND NOT EXISTS (
       SELECT FROM compliance_compliancerequest earlier
        WHERE {IS_EARLIER} AND earlier.status IN {RUNNABLE} AND earlier.id <> ALL(%(picked)s::uuid[]))
   AND (r.named_conversations IS NULL OR NOT EXISTS (
       SELECT FROM {SHARING} AS earlier WHERE earlier.seq < r.seq AND earlier.status IN {RUNNABLE}))
RETURNING r.id, made.id
"""

# Without a check of earlier requests: nothing else is carried out meanwhile.
_CLAIM_THESE = f"""
WITH picked AS (
    SELECT r.id FROM compliance_compliancerequest r
     WHERE r.id = ANY(%(picked)s::uuid[]) AND {IS_QUEUED} AND {DUE_AT} <= clock_timestamp()
     ORDER BY r.seq FOR UPDATE SKIP LOCKED
), made AS (
    INSERT INTO compliance_claim (owner, token, is_large, expires_at)
    SELECT %(owner)s, %(token)s::uuid, FALSE, {LEASE_END} WHERE EXISTS (SELECT FROM picked)
    RETURNING id
)
UPDATE compliance_compliancerequest r SET claim_id = made.id FROM made, picked WHERE r.id = picked.id
RETURNING r.id, made.id
"""

# A lost worker is to blame, but not one that ended along with its cluster. Its request may be the cause: it loses an
# attempt, and gets an error, if it was alone.
_REQUEUE = f"""
WITH lost AS (
    DELETE FROM compliance_claim WHERE id IN (SELECT id FROM compliance_claim WHERE {{which}} FOR UPDATE SKIP LOCKED)
    RETURNING id, %(blamed)s::text IS NULL OR owner = %(blamed)s AS to_blame,
              (SELECT count(*) FROM compliance_compliancerequest WHERE claim_id = compliance_claim.id) AS requests
), judged AS (
    SELECT id, to_blame, requests > {scheduling.SPLIT_SIZE} AS many, to_blame AND requests = 1 AS counts FROM lost
)
UPDATE compliance_compliancerequest r
   SET claim_id = NULL,
       status = CASE WHEN judged.counts AND r.attempts + 1 >= %(most)s THEN 'failed' ELSE 'accepted' END,
       failed_at = CASE WHEN judged.counts AND r.attempts + 1 >= %(most)s THEN clock_timestamp() END,
       lane = CASE WHEN NOT judged.to_blame OR r.lane IN ('large', 'client') THEN r.lane
                   WHEN judged.many THEN 'split' ELSE 'isolated' END,
       attempts = CASE WHEN judged.counts THEN r.attempts + 1 ELSE r.attempts END,
       error_code = CASE WHEN judged.counts THEN 'worker_lost' ELSE r.error_code END,
       error_detail = CASE WHEN judged.counts THEN
           'The worker stopped in the middle of the work. Its logs may say why.' ELSE r.error_detail END
  FROM judged
 WHERE r.claim_id = judged.id AND r.claim_id = ANY(ARRAY(SELECT id FROM judged))
RETURNING r.id, r.chatbot_id, r.attempts, r.status,
          CASE WHEN judged.counts THEN 'worker_lost' WHEN judged.to_blame THEN 'claim_lost' ELSE 'cluster_ended' END
"""
_REQUEUE_EXPIRED = _REQUEUE.format(which="expires_at < clock_timestamp()")
_REQUEUE_THESE = _REQUEUE.format(
    which="id IN (SELECT claim_id FROM compliance_compliancerequest WHERE id = ANY(%(picked)s::uuid[]))"
)
_REQUEUE_FROM_CLUSTER = _REQUEUE.format(which="starts_with(owner, %(cluster)s || ':')")


@dataclass
class HeldClaim:
    id: int
    token: UUID
    kind: Kind
    lane: Lane
    request_ids: tuple[UUID, ...]
    bucket_of: int | None = None  # the chatbot whose client's bucket it may call
    others_wait: bool = False  # whether chatbots of other places (conversations/placement.py) may have requests, too
    _now: datetime | None = field(default=None, init=False)  # while a transaction is open
    _is_over: bool = field(default=False, init=False)

    @property
    def is_large(self) -> bool:
        return self.lane is Lane.LARGE

    @property
    def may_leave_work(self) -> bool:
        """Whether work for other workers may wait: in other places, or if the claim is full, as large ones are."""
        return self.others_wait or len(self.request_ids) == scheduling.claim_size(self.kind, self.lane)

    @contextmanager
    def transaction(self) -> Iterator[datetime]:
        """Open a transaction that locks and renews the claim, and yield the database's time.

        All writes for the claim's requests happen in such a transaction, which finds rows by index. Joins one that is
        open. Raises ClaimLost, and then writes nothing, when the claim is no longer ours.
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
            self._is_over = False  # the end of the claim was rolled back too
            raise

    def share_with_intake(
        self, chatbot_ids: Iterable[int], work: Callable[[datetime, set[int]], Iterable[_Done]]
    ) -> list[_Done]:
        """Do work in transactions of the claim, under these chatbots' intake locks, which exclude marking.

        `work` gets the database's time and the chatbots that are locked: once for all whose lock is free, then for
        each of the others. Returns all results. Raises ClaimLost.
        """
        done: list[_Done] = []
        wanted = set(chatbot_ids)
        with self.transaction() as now:
            free = locks.try_to_share(wanted)
            if free:
                done += work(now, free)
        for chatbot_id in sorted(wanted - free):
            with self.transaction() as now:
                locks.share_with_intake(chatbot_id)
                done += work(now, {chatbot_id})
        return done

    def renew(self) -> None:
        """Renew the lease outside a transaction. Raises ClaimLost."""
        with transaction.atomic():
            self._lock()

    def release(self) -> None:
        """End the claim and requeue the requests left in it, without a lost attempt. Can be repeated."""
        if self._is_over:
            return
        with self.transaction():
            execute(
                "UPDATE compliance_compliancerequest SET claim_id = NULL, status = 'accepted' WHERE claim_id = %s",
                [self.id],
            )
            execute("DELETE FROM compliance_claim WHERE id = %s", [self.id])
        self._is_over = True

    def abandon(self) -> None:
        """Release the claim from another thread than the one that works on it, which then loses it."""
        with suppress(ClaimLost):
            replace(self).release()

    def _lock(self) -> datetime:
        placement.find_by_index()
        row = fetch_one(_RENEW, {"lease": LEASE_SECONDS, "id": self.id, "token": self.token})
        if row is None:
            raise ClaimLost
        return cast("datetime", row[0])


def take(kind: Kind, lane: Lane = Lane.NORMAL) -> HeldClaim | None:
    """Claim the next requests of a kind that call no client's bucket; return None if there are none to take.

    A claim of the normal lane has many, a fair share for each chatbot; all are of chatbots of one place. A claim of
    the lane `split` has fewer, from claims that failed or were lost. If such a claim fails too, its requests are
    taken alone, as a large one is; one worker of a cluster always stays free of large ones.
    """
    with transaction.atomic():
        chatbots = scheduling.waiting_chatbots(kind, lane)
        if not chatbots or (lane is Lane.LARGE and not scheduling.large_lane_has_room()):
            return None
        picked = scheduling.pick_requests(kind, lane, chatbots)
        return picked and _claim(kind, lane, picked.request_ids, others_wait=picked.others_wait)


def take_by_ids(kind: Kind, lane: Lane, request_ids: Sequence[UUID]) -> HeldClaim | None:
    """Claim the waiting ones of these requests of one kind and lane; return None if there is none.

    Only for a replay: also while the database is closed, and before earlier requests.
    """
    token = uuid4()
    values = {"owner": proc.owner(), "token": token, "lease": LEASE_SECONDS, "picked": array(request_ids)}
    with transaction.atomic():
        claimed = dict(fetch(_CLAIM_THESE, values))
    taken = tuple(request_id for request_id in request_ids if request_id in claimed)
    return HeldClaim(claimed[taken[0]], token, kind, lane, taken) if taken else None


def take_for_bucket(busy: Collection[int] = ()) -> HeldClaim | None:
    """Claim the next requests for one client's bucket that no claim calls yet; return None if there are none.

    Skips the chatbots in `busy`.
    """
    with transaction.atomic():
        found = scheduling.pick_bucket(busy)
        return found and _claim(found.kind, found.lane, found.request_ids, bucket_of=found.chatbot_id)


def _claim(
    kind: Kind, lane: Lane, picked: list[UUID], *, bucket_of: int | None = None, others_wait: bool = False
) -> HeldClaim | None:
    token = uuid4()
    values: dict[str, Any] = {
        "owner": proc.owner(),
        "token": token,
        # A claim that calls a client's bucket has a thread of its own and blocks no worker.
        "large": lane is Lane.LARGE and bucket_of is None,
        "bucket_of": bucket_of,
        "lease": LEASE_SECONDS,
        "picked": array(picked),
    }
    claimed = dict(fetch(_CLAIM, values))
    if not claimed:
        # Another worker has just claimed their predecessors, or the bucket. Or the database was restored.
        transaction.set_rollback(True)
        return None
    request_ids = tuple(request_id for request_id in picked if request_id in claimed)
    return HeldClaim(claimed[request_ids[0]], token, kind, lane, request_ids, bucket_of, others_wait)


def requeue_expired() -> int:
    """Requeue the requests of expired claims, to be claimed with fewer others or alone, and return how many.

    Skips a claim that is locked: its worker is in a transaction, which renews it.
    """
    return _requeue(_REQUEUE_EXPIRED, blamed=None)


def requeue_by_ids(request_ids: Collection[UUID]) -> None:
    """Requeue these requests from the claims that a replay has left behind, without a lost attempt."""
    _requeue(_REQUEUE_THESE, blamed="", picked=array(request_ids))


def requeue_from_cluster(cluster: str, *, blamed: str | None) -> bool:
    """Requeue the requests of a dead cluster's workers, and return whether none is left.

    Requests whose transaction the database has not ended yet are left for later. A request that was alone in a claim
    of the owner `blamed`, or of any if that is None, loses an attempt.
    """
    _requeue(_REQUEUE_FROM_CLUSTER, cluster=cluster, blamed=blamed)
    return not Claim.objects.filter(owner__startswith=f"{cluster}:").exists()


@transaction.atomic
def _requeue(statement: str, **values: str | None) -> int:
    lost = fetch(statement, {"most": MAX_ATTEMPTS, **values})
    announce([request_id for request_id, _, _, status, _ in lost if status == "failed"])
    changelog.record_all(
        changelog.entry(
            "request.failed" if status == "failed" else "request.requeued",
            chatbot_id=chatbot_id,
            request_id=request_id,
            actor="worker",
            data={"code": code, "attempts": attempts},
        )
        for request_id, chatbot_id, attempts, status, code in lost
    )
    return len(lost)
