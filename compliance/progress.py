"""Every change of a request's state that a worker reports. Each happens in a bite of the worker's claim.

The counters are added in the transaction that did what they count, so that a kill can neither lose nor repeat
one. Final states forget the chatter's value.
"""

import logging
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from django.conf import settings
from django.db import connection, transaction

from chatbots import changelog
from chatbots.buckets import errors
from compliance.claims import MAX_ATTEMPTS, HeldClaim
from compliance.errors import StepFailed
from compliance.models import ComplianceRequest
from compliance.sizes import Size
from config.arrays import array
from conversations.locks import share_with_intake

logger = logging.getLogger(__name__)

Lane = ComplianceRequest.Lane
Status = ComplianceRequest.Status
Result = ComplianceRequest.Result

COUNTERS = (
    "conversations",
    "shared_conversations",
    "messages",
    "identities",
    "variable_values",
    "files",
    "exports",
    "extracts",
)

# What one request's work added to its counters.
Counts = Counter[str]

_ACTOR = "worker"

_DETAIL_LENGTH = ComplianceRequest._meta.get_field("error_detail").max_length

_RELEASE = """
UPDATE compliance_compliancerequest r SET status = 'accepted', hold_reason = NULL
 WHERE r.status = 'on_hold' AND r.hold_reason = 'export_pending'
   AND NOT EXISTS (
       SELECT 1 FROM compliance_compliancerequest earlier
        WHERE earlier.variable_id = r.variable_id AND earlier.uci_digest = r.uci_digest
          AND earlier.seq < r.seq AND earlier.kind = 'export' AND earlier.status IN ('failed', 'on_hold')
          AND earlier.uci_value IS NOT NULL)
RETURNING r.id, r.chatbot_id
"""

_FORGET_FAILED = """
UPDATE compliance_compliancerequest earlier SET uci_value = NULL
  FROM compliance_compliancerequest r
 WHERE r.id = ANY(%s) AND r.claim_id = %s
   AND earlier.variable_id = r.variable_id AND earlier.uci_digest = r.uci_digest AND earlier.seq < r.seq
   AND earlier.status = 'failed' AND earlier.uci_value IS NOT NULL
   AND (earlier.kind = 'export' OR earlier.failed_at <= r.cut_at)
"""

_COMPLETE = """
UPDATE compliance_compliancerequest
   SET status = 'completed', completed_at = %s, claim_id = NULL, uci_value = NULL,
       conversations_total = greatest(conversations_total, conversations),
       result = CASE WHEN conversations_total + conversations + files + exports > 0
                     THEN 'done' ELSE 'nothing_found' END,
       error_code = '', error_detail = ''
 WHERE id = ANY(%s) AND claim_id = %s
RETURNING id, chatbot_id, result, conversations, messages, files, exports
"""

_START_EXPORTS = """
WITH claimed AS (
    SELECT id FROM compliance_compliancerequest WHERE claim_id = %(claim)s ORDER BY seq FOR UPDATE
)
UPDATE compliance_compliancerequest r
   SET status = 'processing', started_at = coalesce(r.started_at, %(now)s), cut_at = %(now)s
  FROM claimed WHERE r.id = claimed.id
"""

# In the order of the rows' ids, as whoever else locks many of them.
_FINISH_EXPORTS = """
WITH delivered AS (
    SELECT * FROM unnest(%(ids)s::bigint[], %(keys)s::text[], %(rows)s::bigint[], %(sizes)s::bigint[],
                         %(digests)s::text[]) AS file(id, key, rows, bytes, sha256)
), ours AS (
    SELECT e.id
      FROM delivered
      JOIN compliance_export e ON e.id = delivered.id
      JOIN compliance_compliancerequest r ON r.id = e.request_id
     WHERE e.key = delivered.key AND e.doomed_by IS NULL AND r.claim_id = %(claim)s
     ORDER BY e.id
       FOR UPDATE OF e
)
UPDATE compliance_export e
   SET rows = delivered.rows, bytes = delivered.bytes, sha256 = delivered.sha256, upload_id = NULL,
       finished_at = %(now)s, expires_at = CASE WHEN e.hosting = 'hosted' THEN %(expires)s END
  FROM ours JOIN delivered ON delivered.id = ours.id
 WHERE e.id = ours.id
RETURNING e.request_id
"""

# The first retry waits this long, each further one four times as long: the last comes after some forty minutes,
# since a storage that is down is seldom back sooner.
_BACK_OFF = timedelta(seconds=30)

# How long requests wait whose storage is left alone: by then a first rest of its breaker is over.
_REST_WAIT = timedelta(seconds=45)


def hold(held: HeldClaim, reasons: Mapping[UUID, ComplianceRequest.HoldReason]) -> None:
    """Put requests on hold, out of the claim, before anything of theirs is touched."""
    with held.bite() as now:
        requests = _claimed(held, reasons)
        for reason in set(reasons.values()):
            ids = [request_id for request_id, why in reasons.items() if why == reason]
            ComplianceRequest.objects.filter(pk__in=ids, claim=held.id).update(
                status=Status.ON_HOLD, hold_reason=reason, held_at=now, claim=None
            )
        _log("request.held", requests, lambda request: {"reason": str(reasons[request.pk])})


def add_counts(counts: Mapping[UUID, Counts]) -> None:
    """Add to the counters of many requests in one statement, in the caller's bite."""
    changed = {request_id: count for request_id, count in counts.items() if count}
    if not changed:
        return
    columns = ", ".join(f"{name} = r.{name} + added.{name}" for name in COUNTERS)
    arrays = ", ".join(["%s::uuid[]", *["%s::bigint[]"] * len(COUNTERS)])
    with connection.cursor() as cursor:
        cursor.execute(
            f"UPDATE compliance_compliancerequest r SET {columns}"  # noqa: S608  (names of ours)
            f" FROM unnest({arrays}) AS added(id, {', '.join(COUNTERS)}) WHERE r.id = added.id",
            [array(changed), *(array(count[name] for count in changed.values()) for name in COUNTERS)],
        )


def start_exports(held: HeldClaim, now: datetime) -> list[ComplianceRequest]:
    """Set all exports of the claim under way, in the caller's bite, and return them. The snapshot is read next."""
    with connection.cursor() as cursor:
        cursor.execute(_START_EXPORTS, {"claim": held.id, "now": now})
    requests = list(ComplianceRequest.objects.filter(claim=held.id).order_by("seq"))
    _log("request.started", requests)
    return requests


@dataclass(frozen=True)
class Delivered:
    """An export's file that is whole and under its key, and what it counted."""

    request_id: UUID
    chatbot_id: int
    export_id: int
    key: str
    rows: int
    bytes: int
    sha256: str
    counts: Counts


def overtaken() -> StepFailed:
    """Why an export cannot be delivered when a deletion has met one of its conversations."""
    return StepFailed("export_overtaken", "A deletion erased part of what was exported. It is made again.")


def complete_exports(held: HeldClaim, files: Sequence[Delivered]) -> list[UUID]:
    """Publish the outcome of exports: their files are whole and under their keys. Raises ClaimLost.

    Returns the requests that could not be completed: a deletion that met one of the chatter's conversations has
    removed the file, or is about to. Such an export has to be made again from what is left.
    """
    with held.bite() as now:
        # Without the lock a mark could doom the same rows in another order, and each wait for the other.
        share_with_intake(file.chatbot_id for file in files)
        with connection.cursor() as cursor:
            cursor.execute(
                _FINISH_EXPORTS,
                {
                    "claim": held.id,
                    "now": now,
                    "expires": now + settings.HOSTED_FILE_DAYS,
                    "ids": array(file.export_id for file in files),
                    "keys": [file.key for file in files],
                    "rows": array(file.rows for file in files),
                    "sizes": array(file.bytes for file in files),
                    "digests": [file.sha256 for file in files],
                },
            )
            finished = {row[0] for row in cursor.fetchall()}
        add_counts({file.request_id: file.counts for file in files if file.request_id in finished})
        _complete(held, list(finished), now)
    return [file.request_id for file in files if file.request_id not in finished]


def complete_deletions(held: HeldClaim, request_ids: Iterable[UUID]) -> None:
    """Complete deletions whose second look found nothing; the chatters' earlier failed requests forget them too.

    Not a deletion that failed after the mark: the mark has not taken over what that one left.
    """
    with held.bite() as now:
        ids = list(request_ids)
        with connection.cursor() as cursor:
            cursor.execute(_FORGET_FAILED, [array(ids), held.id])
        _complete(held, ids, now)


def give_back(held: HeldClaim, request_ids: Iterable[UUID], *, code: str, wait: timedelta = timedelta()) -> None:
    """Put requests back into the line without a lost attempt: the worker stops, or another's work comes first."""
    with held.bite() as now:
        requests = _claimed(held, request_ids)
        ComplianceRequest.objects.filter(pk__in=[request.pk for request in requests]).update(
            status=Status.ACCEPTED, claim=None, not_before=now + wait if wait else None
        )
        _log("request.given_back", requests, lambda request: {"code": code, "attempts": request.attempts})


def give_back_alone(held: HeldClaim) -> None:
    """After an error that no single request is known to have caused: each is tried by itself, no attempt lost."""
    _change_lane(held, held.request_ids, Lane.ALONE, code="isolated")


def divert_large(held: HeldClaim, request_ids: Sequence[UUID], sizes: Mapping[UUID, Size]) -> list[UUID]:
    """Put requests that would hold up the others into the large lane, before anything is done; return the others.

    A claim of the large lane keeps what it has.
    """
    if held.lane is Lane.LARGE:
        return list(request_ids)
    large = [request_id for request_id in request_ids if request_id in sizes and sizes[request_id].is_large]
    if large:
        _change_lane(held, large, Lane.LARGE, code="large")
    return [request_id for request_id in request_ids if request_id not in large]


def set_apart(held: HeldClaim, request_ids: Sequence[UUID], apart: Sequence[UUID]) -> list[UUID]:
    """Put those of `apart` into the large lane, since they call a client's bucket; return the others.

    A claim of the large lane keeps what it has.
    """
    if held.lane is Lane.LARGE or not apart:
        return list(request_ids)
    _change_lane(held, apart, Lane.LARGE, code="client_bucket")
    return [request_id for request_id in request_ids if request_id not in apart]


def _change_lane(held: HeldClaim, request_ids: Iterable[UUID], lane: Lane, *, code: str) -> None:
    with held.bite():
        requests = _claimed(held, request_ids)
        ComplianceRequest.objects.filter(pk__in=[request.pk for request in requests]).update(
            status=Status.ACCEPTED, claim=None, lane=lane
        )
        _log("request.given_back", requests, lambda request: {"code": code, "attempts": request.attempts})


def step_failed(held: HeldClaim, failures: Mapping[UUID, StepFailed]) -> None:
    """Note errors: an attempt is lost; try again after a wait, or fail when none is left or trying cannot help.

    No attempt is lost where nothing was tried, since the storage is left alone for a while.
    """
    with held.bite() as now:
        resting = {request_id for request_id, failure in failures.items() if failure.code == errors.RESTING}
        _rest(held, resting, now)
        requests = _claimed(held, failures.keys() - resting)
        for request in requests:
            failure = failures[request.pk]
            request.attempts += 1
            request.error_code, request.error_detail = failure.code, failure.detail[:_DETAIL_LENGTH]
            request.claim = None
            logger.warning("request.attempt_failed request=%s code=%s", request.pk, failure.code)
            if failure.retryable and request.attempts < MAX_ATTEMPTS:
                request.status = Status.ACCEPTED
                request.not_before = now + _BACK_OFF * 4 ** (request.attempts - 1)
            else:
                request.status, request.failed_at = Status.FAILED, now
            request.save(
                update_fields=[
                    "attempts",
                    "error_code",
                    "error_detail",
                    "claim",
                    "status",
                    "not_before",
                    "failed_at",
                ]
            )
        for status, event in ((Status.ACCEPTED, "request.given_back"), (Status.FAILED, "request.failed")):
            _log(
                event,
                [request for request in requests if request.status == status],
                lambda request: {"code": request.error_code, "attempts": request.attempts},
            )


def _rest(held: HeldClaim, request_ids: Collection[UUID], now: datetime) -> None:
    """Give requests back until their storage may be tried again. Logged the first time only: it can take days."""
    requests = _claimed(held, request_ids)
    resting = errors.resting()
    ComplianceRequest.objects.filter(pk__in=[request.pk for request in requests]).update(
        status=Status.ACCEPTED,
        claim=None,
        not_before=now + _REST_WAIT,
        error_code=resting.code,
        error_detail=resting.detail,
    )
    _log(
        "request.given_back",
        [request for request in requests if request.error_code != resting.code],
        lambda request: {"code": resting.code, "attempts": request.attempts},
    )


def release_export_pending() -> int:
    """Let deletions go on whose earlier export is no longer failed or on hold; return how many.

    Whether that export is delivered, given up (it has forgotten the chatter) or in the line again: in each case
    the order of the line is enough from here. Set-wise and cheap, so every drain and sweep begins with it.
    """
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute(_RELEASE)
            released = cursor.fetchall()
        changelog.record_all(
            [
                changelog.entry(
                    "request.released",
                    chatbot_id=chatbot_id,
                    request_id=request_id,
                    actor=_ACTOR,
                    data={"reason": "export_pending"},
                )
                for request_id, chatbot_id in released
            ]
        )
    return len(released)


def _complete(held: HeldClaim, request_ids: Sequence[UUID], now: datetime) -> None:
    with connection.cursor() as cursor:
        cursor.execute(_COMPLETE, [now, array(request_ids), held.id])
        done = cursor.fetchall()
    changelog.record_all(
        [
            changelog.entry(
                "request.completed",
                chatbot_id=chatbot_id,
                request_id=request_id,
                actor=_ACTOR,
                data={
                    "result": result,
                    "conversations": conversations,
                    "messages": messages,
                    "files": files,
                    "exports": exports,
                },
            )
            for request_id, chatbot_id, result, conversations, messages, files, exports in done
        ]
    )


def _claimed(held: HeldClaim, request_ids: Iterable[UUID]) -> list[ComplianceRequest]:
    """Lock the requests, in one order for all workers. What has left the claim is left out."""
    return list(
        ComplianceRequest.objects.select_for_update(of=("self",))
        .filter(pk__in=list(request_ids), claim=held.id)
        .order_by("seq")
    )


def _log(
    event: str,
    requests: Iterable[ComplianceRequest],
    data: Callable[[ComplianceRequest], changelog.Data] = lambda _request: {},
) -> None:
    changelog.record_all(
        [
            changelog.entry(
                event, chatbot_id=request.chatbot_id, request_id=request.pk, actor=_ACTOR, data=data(request)
            )
            for request in requests
        ]
    )
