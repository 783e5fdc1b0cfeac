"""Put requests back into the line: unharmed, or into another lane."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from uuid import UUID

from compliance.models import ComplianceRequest
from compliance.work.claims import HeldClaim
from compliance.work.sizes import Size
from compliance.work.transitions.claimed import claimed, log

Lane = ComplianceRequest.Lane
Status = ComplianceRequest.Status
WaitingFor = ComplianceRequest.WaitingFor


# As the change log tells what a request waits for.
_CODES = {WaitingFor.EXTRACTS: "extracts_pending", WaitingFor.TURN: "turn_over", WaitingFor.ROWS: "rows_in_use"}


def requeue(
    held: HeldClaim, request_ids: Iterable[UUID], *, waiting_for: WaitingFor, wait: timedelta = timedelta()
) -> None:
    """Put requests back into the line without a lost attempt: the worker stops, or another's work comes first.

    The change log is told when that is for another reason than the last time: it can go on for days.
    """
    with held.transaction() as now:
        requests = claimed(held, request_ids)
        ComplianceRequest.objects.filter(pk__in=[request.pk for request in requests]).update(
            status=Status.ACCEPTED, claim=None, waiting_for=waiting_for, not_before=now + wait if wait else None
        )
        log(
            "request.requeued",
            [request for request in requests if request.waiting_for != waiting_for],
            lambda request: {"code": _CODES[waiting_for], "attempts": request.attempts},
        )


def try_again(held: HeldClaim, request_ids: Iterable[UUID], *, code: str) -> None:
    """Put requests back into the line, to be taken at once, since what they rested on has changed meanwhile."""
    with held.transaction():
        requests = claimed(held, request_ids)
        ComplianceRequest.objects.filter(pk__in=[request.pk for request in requests]).update(
            status=Status.ACCEPTED, claim=None, waiting_for=None, not_before=None
        )
        log("request.requeued", requests, lambda request: {"code": code, "attempts": request.attempts})


def requeue_isolated(held: HeldClaim) -> None:
    """After an error that no single request is known to have caused: each is tried by itself, no attempt lost."""
    _change_lane(held, held.request_ids, Lane.ISOLATED, code="isolated")


def move_large(held: HeldClaim, request_ids: Sequence[UUID], sizes: Mapping[UUID, Size]) -> list[UUID]:
    """Put requests that would hold up the others into the large lane, before anything is done; return the others.

    A claim of one request keeps what it has: that of the large lane, and a deletion's that calls a client's bucket.
    """
    if held.lane in {Lane.LARGE, Lane.CLIENT}:
        return list(request_ids)
    large = [request_id for request_id in request_ids if request_id in sizes and sizes[request_id].is_large]
    if large:
        _change_lane(held, large, Lane.LARGE, code="large")
    return [request_id for request_id in request_ids if request_id not in large]


def move_to_client_lane(held: HeldClaim, request_ids: Sequence[UUID], apart: Sequence[UUID]) -> list[UUID]:
    """Put those of `apart` into the lane for clients' buckets, since they have to call one; return the others.

    A claim that may call it keeps what it has.
    """
    if held.bucket_of is not None or not apart:
        return list(request_ids)
    _change_lane(held, apart, Lane.CLIENT, code="client_bucket")
    return [request_id for request_id in request_ids if request_id not in apart]


def _change_lane(held: HeldClaim, request_ids: Iterable[UUID], lane: Lane, *, code: str) -> None:
    with held.transaction():
        requests = claimed(held, request_ids)
        ComplianceRequest.objects.filter(pk__in=[request.pk for request in requests]).update(
            status=Status.ACCEPTED, claim=None, lane=lane
        )
        log("request.requeued", requests, lambda request: {"code": code, "attempts": request.attempts})
