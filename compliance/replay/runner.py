"""Carry out the requests of a replay, and no others: claim them by their ids, and do the work of a worker.

Requests that need a client's bucket, or fail for now, are left to the workers: their conversations are closed, so
they cannot be read, and the requests cannot be cancelled.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from uuid import UUID

from common.db import execute, fetch
from compliance.erasure import extracts, late_data
from compliance.models import ComplianceRequest, LedgerLine
from compliance.work import claims
from compliance.work.claims import HeldClaim
from compliance.work.scheduling import claim_size
from compliance.work.sql import chatbot_of_each, is_open, subjects
from conversations.extracts import leases
from conversations.placement import by_place

Kind = ComplianceRequest.Kind
Lane = ComplianceRequest.Lane

# Carries out a claim until a `time.monotonic()` value, as a worker does (`compliance.worker.work`).
Work = Callable[[HeldClaim, float], None]

# The time of a claim, at most; large ones are requeued and continue.
_TURN_SECONDS = 60.0
# Other transactions have locked the rows of all next requests.
_LOCKED_SECONDS = 0.2
# How long to wait for requests that are retried soon: rows in use, or a storage that does not answer.
PATIENCE_SECONDS = 60.0

_OURS = """
  FROM compliance_ledgerline l
 CROSS JOIN LATERAL (SELECT * FROM compliance_compliancerequest WHERE id = l.request_id) AS r
 WHERE l.outcome = 'filed' AND l.incarnation = %(incarnation)s
"""
_NEXT = f"""
SELECT r.id, r.kind, r.lane {_OURS}
   AND r.status = 'accepted' AND r.claim_id IS NULL AND r.lane <> 'client'
   AND coalesce(r.not_before, r.queued_at) <= clock_timestamp()
 ORDER BY l.request_id LIMIT 500
"""
_CLAIMED = f"SELECT r.id {_OURS} AND r.claim_id IS NOT NULL"
_WAITING = f"""
SELECT extract(epoch FROM min(r.not_before) - clock_timestamp())::float {_OURS}
   AND r.status = 'accepted' AND r.lane <> 'client' AND r.not_before > clock_timestamp()
   AND r.waiting_for IS DISTINCT FROM 'extracts'
"""  # noqa: S608
# Days of the chatbots with requests that wait for days. Any of them is built from the stored data: nothing is lost.
_DAYS = f"""
SELECT e.id
  FROM (SELECT DISTINCT r.chatbot_id {_OURS} AND r.status = 'accepted' AND r.waiting_for = 'extracts') AS waiting
 CROSS JOIN LATERAL (
       SELECT id FROM conversations_dailyextract
        WHERE chatbot_id = waiting.chatbot_id AND hosting = 'hosted' AND key IS NOT NULL
          AND state IN ('pending', 'stale') AND coalesce(made_version, 0) < version
          AND next_attempt_at <= clock_timestamp()) AS e
 ORDER BY e.id LIMIT 1
"""  # noqa: S608
_SETTLE = """
UPDATE compliance_ledgerline l
   SET outcome = CASE WHEN r.status = 'completed' AND r.result IN ('done', 'partial') THEN 'erased'
                      WHEN r.status = 'completed' THEN 'nothing_found' ELSE 'failed' END
  FROM compliance_compliancerequest r
 WHERE r.id = l.request_id AND l.outcome = 'filed' AND l.incarnation = %(incarnation)s
   AND r.status IN ('completed', 'failed') AND l.plan <> 'late'
"""
_STILL_OPEN = """
SELECT DISTINCT deletion_request_id FROM conversations_conversation
 WHERE deletion_request_id = ANY(%(ids)s) AND chatbot_id = ANY(%(chatbots)s) AND deleted_at IS NULL
"""


@dataclass
class ReplayRunner:
    """`deadline` is a `time.monotonic()` value, past which `run` returns between two claims.

    `check` is called before each claim, and raises where another replay can have begun. `progress` is called with the
    number of requests that have ended.
    """

    incarnation: UUID
    work: Work
    deadline: float
    progress: Callable[[int], object]
    check: Callable[[], object]

    def __post_init__(self) -> None:
        self._values = {"incarnation": self.incarnation}
        self._patience = PATIENCE_SECONDS

    def run(self) -> bool:
        """Carry out all filed requests; return False if the time was over first.

        Requests that cannot be carried out here are left to the workers.
        """
        self._requeue_abandoned()
        while time.monotonic() < self.deadline:
            self.check()
            if found := fetch(_NEXT, self._values):
                self._carry_out(found)
            elif not (self._build_day() or self._wait()):
                self._finish()
                return True
        return False

    def _requeue_abandoned(self) -> None:
        """Requeue the claims of a replay that was killed. In a closed service no other process works."""
        if is_open():
            return
        if claimed := [request_id for (request_id,) in fetch(_CLAIMED, self._values)]:
            claims.requeue_by_ids(claimed)
        leases.release_all()

    def _carry_out(self, found: Sequence[tuple[UUID, str, str]]) -> None:
        """Claim the first of these requests and others of its kind, lane and place, and work on them."""
        of = found[0][1:]
        kind, lane = Kind(of[0]), Lane(of[1])
        together = by_place(chatbot_of_each([one[0] for one in found if one[1:] == of]))[0]
        held = claims.take_by_ids(kind, lane, together[: claim_size(kind, lane)])
        if held is None:
            time.sleep(_LOCKED_SECONDS)
        else:
            self.work(held, min(self.deadline, time.monotonic() + _TURN_SECONDS))
        self.progress(execute(_SETTLE, self._values))

    def _build_day(self) -> bool:
        """Rebuild a daily extract that a filed request waits for; return whether there was one."""
        leases.requeue_expired()
        found = fetch(_DAYS, self._values)
        held = leases.take_one(found[0][0]) if found else None
        if held is None:
            return False
        extracts.build(held)
        return True

    def _wait(self) -> bool:
        """Wait for requests that are retried soon; return False if there are none, or the wait was long enough."""
        [(seconds,)] = fetch(_WAITING, self._values)
        if seconds is None or seconds > self._patience:
            return False
        seconds = max(seconds, 0.1)
        self._patience -= seconds
        time.sleep(min(seconds, max(0.0, self.deadline - time.monotonic())))
        return True

    def _finish(self) -> None:
        filed = LedgerLine.objects.filter(outcome=LedgerLine.Outcome.FILED, incarnation=self.incarnation)
        if late := set(filed.filter(plan=LedgerLine.Plan.LATE).values_list("pk", flat=True)):
            late_data.erase()
            still_open = {request_id for (request_id,) in fetch(_STILL_OPEN, subjects(late))}
            filed.filter(pk__in=late - still_open).update(outcome=LedgerLine.Outcome.ERASED)
        execute(_SETTLE, self._values)
        filed.update(outcome=LedgerLine.Outcome.LEFT)
