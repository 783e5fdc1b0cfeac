"""Take, renew and release a claim on requests.

A claim is a row that one worker made; its requests point to it. Whoever wants to write for them locks that row
by id and token first, in the same transaction (`HeldClaim.transaction`). A claim that expired is broken up by
deleting the row, so a worker that slept through its lease finds nothing to lock and writes nothing more.

All times are the database's clock: two workers whose clocks differ agree on what has expired.
"""

from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, TypeVar, cast
from uuid import UUID, uuid4

from django.db import connection, transaction
from django.db.backends.utils import CursorWrapper

from chatbots import changelog
from common import proc
from common.arrays import array
from common.db import execute, fetch, fetch_one
from compliance.errors import ClaimLost
from compliance.models import Claim, ComplianceRequest
from compliance.work import scheduling
from compliance.work.outbox import announce
from compliance.work.sql import SHARING
from conversations import locks

Lane = ComplianceRequest.Lane

_Done = TypeVar("_Done")

# Longer than the longest stretch without a renewal: a storage call with its retries, and the time between two
# renewals in passing (common/leases.py). It is only waited out where nobody can tell that the worker is gone: its
# machine is, or its container. A cluster breaks up what its own dead had in hand (compliance/work/cluster.py).
LEASE_SECONDS = 90
MAX_ATTEMPTS = 5

# A claim and the transactions that hold it find their rows by key. Without statistics (a table just filled), or with
# a thousand keys at once, the planner turns to reading whole tables; so it may not, until the transaction ends. Nor
# may it compile: it takes a claim's look-ups together for much work, and to compile a long statement takes longer
# than to carry it out.
BY_INDEX = """
set_config('enable_seqscan', 'off', TRUE), set_config('enable_hashjoin', 'off', TRUE),
set_config('enable_mergejoin', 'off', TRUE), set_config('enable_material', 'off', TRUE),
set_config('jit', 'off', TRUE)
"""
_RENEW = f"""
UPDATE compliance_claim SET expires_at = clock_timestamp() + make_interval(secs => %s)
 WHERE id = %s AND token = %s RETURNING clock_timestamp(), {BY_INDEX}
"""  # noqa: S608  (a constant of ours)

# Whoever was picked to come along with an earlier one that another worker has just taken is left.
_MAKE = f"""
WITH made AS (
    INSERT INTO compliance_claim (owner, token, is_large, bucket_of_id, expires_at)
    VALUES (%(owner)s, %(token)s, %(large)s, %(bucket_of)s, clock_timestamp() + make_interval(secs => %(lease)s))
        ON CONFLICT (bucket_of_id) DO NOTHING
    RETURNING id
)
UPDATE compliance_compliancerequest r SET claim_id = made.id
  FROM made
 WHERE r.id = ANY(%(picked)s::uuid[])
   AND NOT EXISTS (
       SELECT 1 FROM compliance_compliancerequest earlier
        WHERE earlier.variable_id = r.variable_id AND earlier.uci_digest = r.uci_digest
          AND earlier.seq < r.seq AND earlier.status IN ('accepted', 'processing')
          AND earlier.id <> ALL(%(picked)s::uuid[]))
   AND (r.conversation_digests IS NULL OR NOT EXISTS (
       SELECT 1 FROM {SHARING} AS earlier
        WHERE earlier.seq < r.seq AND earlier.status IN ('accepted', 'processing')))
RETURNING r.id, made.id
"""  # noqa: S608  (a constant of ours)

# Whose own worker was lost loses an attempt. Whose worker was ended along with its cluster does not.
_BREAK = """
WITH lost AS (
    DELETE FROM compliance_claim WHERE id IN (SELECT id FROM compliance_claim WHERE {which} FOR UPDATE SKIP LOCKED)
    RETURNING id, %(blamed)s::text IS NULL OR owner = %(blamed)s AS counts
)
UPDATE compliance_compliancerequest r
   SET claim_id = NULL,
       status = CASE WHEN lost.counts AND r.attempts + 1 >= %(most)s THEN 'failed' ELSE 'accepted' END,
       failed_at = CASE WHEN lost.counts AND r.attempts + 1 >= %(most)s THEN clock_timestamp() END,
       lane = CASE WHEN lost.counts AND r.lane NOT IN ('large', 'client') THEN 'isolated' ELSE r.lane END,
       attempts = CASE WHEN lost.counts THEN r.attempts + 1 ELSE r.attempts END,
       error_code = CASE WHEN lost.counts THEN 'worker_lost' ELSE r.error_code END,
       error_detail = CASE WHEN lost.counts THEN
           'The worker stopped in the middle of the work. Look at its logs, then retry.' ELSE r.error_detail END
  FROM lost
 WHERE r.claim_id = lost.id AND r.claim_id = ANY(ARRAY(SELECT id FROM lost))
RETURNING r.id, r.chatbot_id, r.attempts, r.status, lost.counts
"""
_BREAK_EXPIRED = _BREAK.format(which="expires_at < clock_timestamp()")
_BREAK_OF_CLUSTER = _BREAK.format(which="starts_with(owner, %(cluster)s || ':')")


@dataclass
class HeldClaim:
    """A claim in the hands of the worker that took it."""

    id: int
    token: UUID
    kind: ComplianceRequest.Kind
    lane: Lane
    request_ids: tuple[UUID, ...]
    bucket_of: int | None = None  # the chatbot whose client's bucket it may call
    _now: datetime | None = field(default=None, init=False)  # while a transaction is open
    _is_over: bool = field(default=False, init=False)

    @property
    def is_large(self) -> bool:
        return self.lane is Lane.LARGE

    @property
    def leaves_others(self) -> bool:
        """Say whether more may wait than this worker can see to: the claim is full, or will take long."""
        return self.is_large or len(self.request_ids) == scheduling.CLAIM_SIZE[self.kind]

    @contextmanager
    def transaction(self) -> Iterator[datetime]:
        """Open a transaction that holds the claim, renew it, and yield the database's time.

        Everything written for the claim's requests is written in such a transaction, and its rows are found by
        index. Called while one is open, it joins that one. Raises ClaimLost when the claim is no longer ours; the
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

    def share_with_intake(
        self, chatbot_ids: Iterable[int], work: Callable[[datetime, set[int]], Iterable[_Done]]
    ) -> list[_Done]:
        """Do work in transactions of the claim, under the intake locks of these chatbots, which exclude their marks.

        `work` is called with the database's time and the chatbots whose locks the transaction holds: once for all
        that are free, then for each of the others by itself. Returns all that it returned. Raises ClaimLost.
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
        """Renew the lease between two steps that write nothing to the database. Raises ClaimLost."""
        with transaction.atomic():
            self._lock()

    def release(self) -> None:
        """End the claim. Requests that still point to it go back to the line, without a lost attempt.

        To do so again does nothing: a worker that releases the claim in its last transaction spares another one.
        """
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
        """As `release`, from another thread than the one that works on the claim: that loses it."""
        with suppress(ClaimLost):
            replace(self).release()

    def _lock(self) -> datetime:
        row = fetch_one(_RENEW, [LEASE_SECONDS, self.id, self.token])
        if row is None:
            raise ClaimLost
        return cast("datetime", row[0])


def take(kind: ComplianceRequest.Kind, lane: Lane = Lane.NORMAL) -> HeldClaim | None:
    """Claim the next requests of a kind that call no client's bucket, or return None when nothing can be taken.

    Of the normal lane many at once, a fair share for each chatbot. What failed or was lost in a claim before is
    taken by itself, so that a poison request costs no other its attempts; and so is what is large, which all but
    one of a cluster's workers may be at work on at a time: one is always left for the others.
    """
    with transaction.atomic(), connection.cursor() as cursor:
        chatbots = scheduling.waiting_chatbots(cursor, kind, lane)
        if not chatbots or (lane is Lane.LARGE and not scheduling.large_lane_has_room(cursor)):
            return None
        cursor.execute(f"SELECT {BY_INDEX}")
        return _make(cursor, kind, lane, scheduling.pick_requests(cursor, kind, lane, chatbots))


def take_for_bucket(busy: Collection[int] = ()) -> HeldClaim | None:
    """Claim the next requests that call one client's bucket, or return None when nothing can be taken.

    Of no bucket that a claim calls already, and of no chatbot in `busy`.
    """
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(f"SELECT {BY_INDEX}")
        drawn = scheduling.pick_bucket(cursor, busy)
        if drawn is None:
            return None
        return _make(cursor, drawn.kind, drawn.lane, drawn.request_ids, bucket_of=drawn.chatbot_id)


def _make(
    cursor: CursorWrapper,
    kind: ComplianceRequest.Kind,
    lane: Lane,
    picked: list[UUID],
    *,
    bucket_of: int | None = None,
) -> HeldClaim | None:
    if not picked:
        return None
    token = uuid4()
    values: dict[str, Any] = {
        "owner": proc.owner(),
        "token": token,
        # What calls a client's bucket has a thread, and keeps no worker from other work.
        "large": lane is Lane.LARGE and bucket_of is None,
        "bucket_of": bucket_of,
        "lease": LEASE_SECONDS,
        "picked": array(picked),
    }
    cursor.execute(_MAKE, values)
    made = cursor.fetchall()
    if not made:
        # All of them wait for one that another worker is taking right now, or it has just taken the bucket.
        transaction.set_rollback(True)
        return None
    ids = {request_id for request_id, _ in made}
    taken = tuple(each for each in picked if each in ids)
    return HeldClaim(made[0][1], token, kind, lane, taken, bucket_of=bucket_of)


def requeue_expired() -> int:
    """Put the requests of expired claims back into the line, each to be taken alone; return how many.

    A claim whose worker is in the middle of a transaction is locked and left: it renews itself.
    """
    return _break(_BREAK_EXPIRED, blamed=None)


def requeue_from_cluster(cluster: str, *, blamed: str | None) -> bool:
    """Put back what the workers of a cluster had in hand that is no more; say whether all of that is done.

    What one of its transactions still holds is left, until the database has noticed that its worker is gone. An
    attempt is lost by what the owner `blamed` had in hand; by all, if that is None.
    """
    _break(_BREAK_OF_CLUSTER, cluster=cluster, blamed=blamed)
    return not Claim.objects.filter(owner__startswith=f"{cluster}:").exists()


def _break(statement: str, **values: str | None) -> int:
    with transaction.atomic():
        lost = fetch(statement, {"most": MAX_ATTEMPTS, **values})
        announce([request_id for request_id, _, _, status, _ in lost if status == "failed"])
        changelog.record_all(
            [
                changelog.entry(
                    "request.failed" if status == "failed" else "request.requeued",
                    chatbot_id=chatbot_id,
                    request_id=request_id,
                    actor="worker",
                    data={"code": "worker_lost" if counts else "cluster_ended", "attempts": attempts},
                )
                for request_id, chatbot_id, attempts, status, counts in lost
            ]
        )
    return len(lost)
