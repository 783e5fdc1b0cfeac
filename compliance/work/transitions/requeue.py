"""Remove unfinished requests from a claim: requeue, move to another lane, hold or fail them. Release held ones."""

import logging
import random
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.db import transaction
from django.db.models import Case, F, Value, When
from django.db.models.functions import Now

from chatbots import changelog
from common.db import array, execute, fetch
from common.storage import StorageError, errors
from compliance.errors import StepFailed
from compliance.models import ComplianceRequest
from compliance.work.claims import MAX_ATTEMPTS, HeldClaim
from compliance.work.outbox import announce, log
from compliance.work.scheduling import SPLIT_SIZE
from compliance.work.sizes import Size
from compliance.work.sql import IS_EARLIER, OPEN, SHARING, chatbot_of_each
from conversations.placement import machines

logger = logging.getLogger(__name__)

HoldReason = ComplianceRequest.HoldReason
Lane = ComplianceRequest.Lane
Status = ComplianceRequest.Status
WaitingFor = ComplianceRequest.WaitingFor

_SHARED_LANES = {Lane.NORMAL, Lane.SPLIT}

_DETAIL_LENGTH = ComplianceRequest._meta.get_field("error_detail").max_length

# The wait before each retry. A restarted service is back soon; after some forty minutes few are.
_BACK_OFF = [timedelta(seconds=5), timedelta(seconds=10), timedelta(minutes=2), timedelta(minutes=40)]
# The wait for a storage whose calls are suspended: the first time, and from then on.
_REST_WAITS = timedelta(seconds=5), timedelta(seconds=10)
# The same for a database that refuses work.
_REFUSED_WAITS = timedelta(seconds=5), timedelta(minutes=2)

# The change log's code for each reason to wait.
_CODES = {WaitingFor.EXTRACTS: "extracts_pending", WaitingFor.TURN: "turn_over", WaitingFor.ROWS: "rows_in_use"}

_RELEASE = f"""
UPDATE compliance_compliancerequest r SET status = 'accepted', hold_reason = NULL, answered_at = NULL
 WHERE r.status = 'on_hold' AND r.hold_reason = 'export_pending'
   AND NOT EXISTS (
       SELECT FROM compliance_compliancerequest earlier
        WHERE {IS_EARLIER} AND earlier.kind = 'export' AND earlier.status IN ('failed', 'on_hold')
          AND earlier.uci_value IS NOT NULL)
   AND (r.named_conversations IS NULL OR NOT EXISTS (
       SELECT FROM {SHARING} AS earlier
        WHERE earlier.seq < r.seq AND earlier.kind = 'export' AND earlier.status IN ('failed', 'on_hold')))
   AND NOT EXISTS (
       SELECT FROM compliance_compliancerequest e
        WHERE e.id = r.pending_export_id AND e.status IN {OPEN}
          AND (e.uci_value IS NOT NULL OR e.named_conversations IS NOT NULL))
RETURNING r.id, r.chatbot_id
"""
_SET_PENDING_EXPORT = """
UPDATE compliance_compliancerequest r SET pending_export_id = pending.export_id
  FROM unnest(%s::uuid[], %s::uuid[]) AS pending(id, export_id) WHERE r.id = pending.id AND r.claim_id = %s
"""


def requeue(
    held: HeldClaim, request_ids: Iterable[UUID], *, waiting_for: WaitingFor, wait: timedelta = timedelta()
) -> None:
    """Requeue requests without a lost attempt: the worker stops, or other work comes first.

    Logged only when the reason changes: it can repeat for days.
    """
    with held.transaction() as now:
        requests = _requeue(held, request_ids, waiting_for=waiting_for, not_before=now + wait if wait else None)
        _log_requeued((request for request in requests if request.waiting_for != waiting_for), _CODES[waiting_for])


def retry_now(held: HeldClaim, request_ids: Iterable[UUID], *, code: str) -> None:
    """Requeue requests to be claimed at once, since the data that they started from has changed."""
    with held.transaction():
        _log_requeued(_requeue(held, request_ids, waiting_for=None, not_before=None), code)


def split_up(held: HeldClaim, request_ids: Collection[UUID]) -> None:
    """Requeue requests to be claimed with fewer others, after an error of unknown cause.

    Requests of a claim of many go into claims of SPLIT_SIZE, requests of such a claim into claims of one.
    """
    lane = _lane_after_failure(held)
    _change_lane(held, request_ids, lane, code="split" if lane is Lane.SPLIT else "isolated")


def keep_light(held: HeldClaim, request_ids: Sequence[UUID], sizes: Mapping[UUID, Size]) -> list[UUID]:
    """Remove requests that would delay the others from the claim, before any work, and return the rest.

    Large requests move to their lane. Those with files to copy or remove, or with long texts, stay while their total
    is no more than that of one large request: the first of each chatbot, drawn at random, before the second of any.
    The others keep their places in the queue.

    Claims of one request, in the large lane or for a client's bucket, keep their requests.
    """
    if held.lane in {Lane.LARGE, Lane.CLIENT}:
        return list(request_ids)
    large = {request_id for request_id in request_ids if request_id in sizes and sizes[request_id].is_large}
    if large:
        _change_lane(held, large, Lane.LARGE, code="large")
    left = [request_id for request_id in request_ids if request_id not in large]
    late = _beyond_share({request_id: sizes[request_id].load for request_id in left if request_id in sizes})
    if late:
        requeue(held, late, waiting_for=WaitingFor.TURN)
    return [request_id for request_id in left if request_id not in late]


def move_to_client_lane(held: HeldClaim, request_ids: Sequence[UUID], apart: Sequence[UUID]) -> list[UUID]:
    """Move the requests in `apart`, which call a client's bucket, to the lane for that, and return the others.

    A claim that may call the bucket keeps them.
    """
    if held.bucket_of is not None or not apart:
        return list(request_ids)
    _change_lane(held, apart, Lane.CLIENT, code="client_bucket")
    return [request_id for request_id in request_ids if request_id not in apart]


def step_failed(held: HeldClaim, failures: Mapping[UUID, StepFailed]) -> None:
    """Record errors: each costs an attempt. Retry after a wait, or fail when none is left or a retry cannot help.

    If calls to the storage are suspended, nothing was tried, so no attempt is lost.
    """
    with held.transaction() as now:
        resting = {request_id for request_id, failure in failures.items() if failure.code == errors.RESTING}
        _postpone(held, resting, errors.resting(), *(now + wait for wait in _REST_WAITS))
        requests = claimed(held, failures.keys() - resting)
        for request in requests:
            failure = failures[request.pk]
            request.attempts += 1
            request.error_code, request.error_detail = failure.code, failure.detail[:_DETAIL_LENGTH]
            request.claim = request.waiting_for = None
            logger.warning("request.attempt_failed request=%s code=%s", request.pk, failure.code)
            most = errors.max_attempts(failure.code, retryable=failure.retryable, most=MAX_ATTEMPTS)
            if request.attempts < most:
                request.status = Status.ACCEPTED
                request.not_before = now + _BACK_OFF[request.attempts - 1]
            else:
                request.status, request.failed_at = Status.FAILED, now
            request.save(
                update_fields=[
                    *("attempts", "error_code", "error_detail", "claim", "waiting_for", "status", "not_before"),
                    "failed_at",
                ]
            )
        failed = [request for request in requests if request.status == Status.FAILED]
        announce([request.pk for request in failed])
        _log_requeued(request for request in requests if request.status == Status.ACCEPTED)
        log("request.failed", [_with_code(request) for request in failed])


def machine_lost(held: HeldClaim, request_ids: Collection[UUID]) -> None:
    """Requeue requests that were at work when a machine of the database was lost.

    The first time they wait, without a lost attempt. If a machine is lost again, a request at work may be the cause:
    so they are split up, and a request that was alone loses an attempt.
    """
    with held.transaction() as now:
        first = {request.pk for request in claimed(held, request_ids) if request.error_code != machines.SILENT}
        _postpone(held, first, StepFailed.by_machine(), *[now + _BACK_OFF[0]] * 2)
        again = set(request_ids) - first
        if len(request_ids) == 1:
            step_failed(held, dict.fromkeys(again, StepFailed.by_machine()))
        elif again:
            split_up(held, again)


def refused(held: HeldClaim, request_ids: Collection[UUID], failure: StepFailed) -> None:
    """Requeue requests whose work the database refused for now, without a lost attempt. Logged the first time only.

    A request that is refused again may be the cause, as when it needs more room than the disk has: from then on it is
    claimed with fewer others or alone, and waits longer.
    """
    lane = Case(When(error_code=failure.code, then=Value(_lane_after_failure(held))), default=F("lane"))
    with held.transaction() as now:
        _postpone(held, request_ids, failure, *(now + wait for wait in _REFUSED_WAITS), lane=lane)


def queue_again(request: ComplianceRequest) -> None:
    """Queue a failed request again, with fresh attempts, in the caller's transaction."""
    request.status, request.attempts, request.failed_at = Status.ACCEPTED, 0, None
    if request.lane in _SHARED_LANES:
        request.lane = Lane.ISOLATED
    request.queued_at, request.not_before, request.waiting_for = Now(), None, None
    request.error_code = request.error_detail = ""
    request.save(
        update_fields=[
            *("status", "attempts", "failed_at", "lane", "queued_at", "not_before", "waiting_for"),
            *("error_code", "error_detail"),
        ]
    )


def hold(held: HeldClaim, reasons: Mapping[UUID, HoldReason], *, pending: Mapping[UUID, UUID]) -> None:
    """Put requests on hold, out of the claim, before any work on them.

    `pending` maps a deletion to the export by the other selector that it waits for: queue order does not cover those.
    """
    with held.transaction() as now:
        requests = claimed(held, reasons)
        if pending:
            execute(_SET_PENDING_EXPORT, [array(pending), array(pending.values()), held.id])
        for reason in set(reasons.values()):
            ids = [request_id for request_id, why in reasons.items() if why == reason]
            ComplianceRequest.objects.filter(pk__in=ids, claim=held.id).update(
                status=Status.ON_HOLD, hold_reason=reason, held_at=now, claim=None, waiting_for=None
            )
        announce([request.pk for request in requests])
        log("request.held", [(each.pk, each.chatbot_id, {"reason": str(reasons[each.pk])}) for each in requests])


@transaction.atomic
def release_export_pending() -> int:
    """Release deletions that no failed or held export blocks any more, and return how many.

    The order of the queue does the rest, whether the export was delivered, given up or requeued. Each drain begins
    with this.
    """
    released = fetch(_RELEASE)
    log(
        "request.released",
        [(request_id, chatbot_id, {"reason": "export_pending"}) for request_id, chatbot_id in released],
    )
    return len(released)


def claimed(held: HeldClaim, request_ids: Iterable[UUID]) -> list[ComplianceRequest]:
    """Lock the requests that are still in the claim, in the common order of all workers, and return them."""
    return list(
        ComplianceRequest.objects.select_for_update(of=("self",))
        .filter(pk__in=list(request_ids), claim=held.id)
        .order_by("seq")
    )


def _lane_after_failure(held: HeldClaim) -> Lane:
    if held.lane not in _SHARED_LANES:
        return held.lane
    return Lane.SPLIT if len(held.request_ids) > SPLIT_SIZE else Lane.ISOLATED


def _requeue(held: HeldClaim, request_ids: Iterable[UUID], **changes: Any) -> list[ComplianceRequest]:
    """Requeue requests with these changes, and return them in their former state."""
    requests = claimed(held, request_ids)
    ComplianceRequest.objects.filter(pk__in=[request.pk for request in requests]).update(
        status=Status.ACCEPTED, claim=None, **changes
    )
    return requests


def _log_requeued(requests: Iterable[ComplianceRequest], code: str = "") -> None:
    log("request.requeued", [_with_code(request, code) for request in requests])


def _with_code(request: ComplianceRequest, code: str = "") -> tuple[UUID, int, changelog.Data]:
    return request.pk, request.chatbot_id, {"code": code or request.error_code, "attempts": request.attempts}


def _beyond_share(loads: Mapping[UUID, float]) -> set[UUID]:
    """Return the requests for which a claim has no room. No later request of a chatbot overtakes them."""
    chatbots = chatbot_of_each([request_id for request_id, load in loads.items() if load])
    drawn = {chatbot_id: random.random() for chatbot_id in chatbots.values()}  # noqa: S311  (not a secret)
    before = Counter[int]()
    turns = {}
    for request_id, chatbot_id in chatbots.items():
        turns[request_id] = before[chatbot_id], drawn[chatbot_id]
        before[chatbot_id] += 1
    room, late, full = 1.0, set[UUID](), set[int]()
    for request_id in sorted(turns, key=lambda each: turns[each]):
        if chatbots[request_id] in full or loads[request_id] > room:
            full.add(chatbots[request_id])
            late.add(request_id)
        else:
            room -= loads[request_id]
    return late


def _change_lane(held: HeldClaim, request_ids: Collection[UUID], lane: Lane, *, code: str) -> None:
    with held.transaction():
        _log_requeued(_requeue(held, request_ids, lane=lane), code)


def _postpone(
    held: HeldClaim,
    request_ids: Collection[UUID],
    failure: StepFailed | StorageError,
    first: datetime,
    again: datetime,
    **changes: Any,
) -> None:
    """Requeue requests without a lost attempt, until `first`, or `again` after a wait of the same kind.

    Logged the first time only: the wait can last days.
    """
    requests = _requeue(
        held,
        request_ids,
        waiting_for=None,
        not_before=Case(When(error_code=failure.code, then=Value(again)), default=Value(first)),
        error_code=failure.code,
        error_detail=failure.detail,
        **changes,
    )
    _log_requeued((request for request in requests if request.error_code != failure.code), failure.code)
