"""Note errors: try again after a wait, or fail."""

import logging
from collections.abc import Collection, Mapping
from datetime import datetime, timedelta
from uuid import UUID

from django.db.models import Case, Value, When

from common.storage import errors
from compliance.errors import StepFailed
from compliance.models import ComplianceRequest
from compliance.work.claims import MAX_ATTEMPTS, HeldClaim
from compliance.work.outbox import announce
from compliance.work.transitions.claimed import claimed, log

logger = logging.getLogger(__name__)

Status = ComplianceRequest.Status

_DETAIL_LENGTH = ComplianceRequest._meta.get_field("error_detail").max_length

# So long is waited before each retry. Whatever was restarted is there again soon; what is not is seldom back within
# some forty minutes.
_BACK_OFF = [timedelta(seconds=5), timedelta(seconds=10), timedelta(minutes=2), timedelta(minutes=40)]

# How long requests wait whose storage is left alone, at first and further on.
_REST_WAITS = timedelta(seconds=5), timedelta(seconds=10)


def step_failed(held: HeldClaim, failures: Mapping[UUID, StepFailed]) -> None:
    """Note errors: an attempt is lost; try again after a wait, or fail when none is left or trying cannot help.

    No attempt is lost where nothing was tried, since the storage is left alone for a while.
    """
    with held.transaction() as now:
        resting = {request_id for request_id, failure in failures.items() if failure.code == errors.RESTING}
        _rest(held, resting, now)
        requests = claimed(held, failures.keys() - resting)
        for request in requests:
            failure = failures[request.pk]
            request.attempts += 1
            request.error_code, request.error_detail = failure.code, failure.detail[:_DETAIL_LENGTH]
            request.claim = None
            request.waiting_for = None
            logger.warning("request.attempt_failed request=%s code=%s", request.pk, failure.code)
            most = errors.most_attempts(failure.code, retryable=failure.retryable, most=MAX_ATTEMPTS)
            if request.attempts < most:
                request.status = Status.ACCEPTED
                request.not_before = now + _BACK_OFF[request.attempts - 1]
            else:
                request.status, request.failed_at = Status.FAILED, now
            request.save(
                update_fields=[
                    "attempts",
                    "error_code",
                    "error_detail",
                    "claim",
                    "waiting_for",
                    "status",
                    "not_before",
                    "failed_at",
                ]
            )
        announce([request.pk for request in requests if request.status == Status.FAILED])
        for status, event in ((Status.ACCEPTED, "request.requeued"), (Status.FAILED, "request.failed")):
            log(
                event,
                [request for request in requests if request.status == status],
                lambda request: {"code": request.error_code, "attempts": request.attempts},
            )


def _rest(held: HeldClaim, request_ids: Collection[UUID], now: datetime) -> None:
    """Requeue requests until their storage may be tried again. Logged the first time only: it can take days."""
    requests = claimed(held, request_ids)
    resting = errors.resting()
    first_wait, next_wait = (Value(now + wait) for wait in _REST_WAITS)
    ComplianceRequest.objects.filter(pk__in=[request.pk for request in requests]).update(
        status=Status.ACCEPTED,
        claim=None,
        waiting_for=None,
        not_before=Case(When(error_code=resting.code, then=next_wait), default=first_wait),
        error_code=resting.code,
        error_detail=resting.detail,
    )
    log(
        "request.requeued",
        [request for request in requests if request.error_code != resting.code],
        lambda request: {"code": resting.code, "attempts": request.attempts},
    )
