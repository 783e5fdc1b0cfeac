"""The request object of the API; `schemas.RequestObject` describes it."""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from django.conf import settings

from common.times import rfc3339
from compliance.models import ComplianceRequest, Export, Redaction, RetentionRun
from compliance.requests import results
from compliance.requests.decisions import is_retryable
from compliance.requests.results import (
    Outcomes,
    RemovedExports,
    assurance_of,
    conversations_done,
    counts_of,
    unverified_left_out,
    waits_for,
)

Status = ComplianceRequest.Status


def represent(request: ComplianceRequest, *, status_url: str, shows_key: bool) -> dict[str, Any]:
    """Return the request object; see `represent_all`."""
    [shown] = represent_all([request], status_url=lambda _request: status_url, shows_key=shows_key)
    return shown


def represent_all(
    requests: Sequence[ComplianceRequest], *, status_url: Callable[[ComplianceRequest], str], shows_key: bool
) -> list[dict[str, Any]]:
    """Return the request objects, in order, by a number of queries that does not grow with theirs.

    They never name the chatter, except by the key of a hosted export, which contains the value: `shows_key` says
    whether the caller may read it (scope `requests:read`).
    """
    outcomes = results.read(requests)
    return [
        _represent(request, outcomes, status_url=status_url(request), shows_key=shows_key) for request in requests
    ]


def _represent(request: ComplianceRequest, outcomes: Outcomes, *, status_url: str, shows_key: bool) -> dict[str, Any]:
    error = {"code": request.error_code, "detail": request.error_detail, "retryable": is_retryable(request)}
    return {
        "request_id": str(request.pk),
        "kind": request.kind,
        "status": request.status,
        "hold_reason": request.hold_reason,
        "selector": request.selector,
        "result": request.result,
        "reference": request.reference,
        "received_at": rfc3339(request.received_at),
        "requested_at": rfc3339(request.requested_at or request.received_at),
        "not_before": rfc3339(request.not_before),
        "due_at": rfc3339(request.due_at),
        "started_at": rfc3339(request.started_at),
        "finished_at": rfc3339(_finished_at(request)),
        "status_url": status_url,
        "progress": {
            "conversations_done": conversations_done(request),
            "conversations_total": request.conversations_total,
            "extracts_done": request.extracts,
            "extracts_total": request.extracts + request.extracts_left,
        },
        "waiting_for": waits_for(request),
        "counts": counts_of(request),
        "assurance": assurance_of(request),
        "unverified_left_out": unverified_left_out(request),
        "export": _export(request, outcomes, shows_key=shows_key),
        # Never with a key.
        "kept_exports": [
            {
                "request_id": str(kept.request_id),
                "hosting": kept.hosting,
                "finished_at": rfc3339(kept.finished_at),
                "sha256": kept.sha256,
                "expires_at": rfc3339(kept.expires_at),
                "removed_at": rfc3339(kept.removed_at),
            }
            for kept in outcomes.kept.get(request.pk, ())
        ],
        "delivered_extracts": [
            {"day": one.day.isoformat(), "finished_at": rfc3339(one.finished_at), "sha256": one.sha256}
            for one in outcomes.delivered.get(request.pk, ())
        ],
        "retention": _retention(outcomes.runs.get(request.pk)),
        "redaction": _redaction(outcomes.redactions.get(request.pk), outcomes.removed.get(request.pk)),
        "repeated_by": _id(outcomes.repeated_by.get(request.pk)),
        "repeats": _id(outcomes.repeats.get(request.pk)),
        "error": error if request.status == Status.FAILED else None,
    }


def _retention(run: RetentionRun | None) -> dict[str, Any] | None:
    if run is None:
        return None
    return {"days": run.retention_days, "older_than": rfc3339(run.older_than), "left_out": run.left_out}


def _redaction(redaction: Redaction | None, removed: RemovedExports | None) -> dict[str, Any] | None:
    if redaction is None:
        return None
    removed = removed or RemovedExports()
    return {
        "number": redaction.conversation_id,
        "messages": len(redaction.message_numbers),
        "reason": redaction.reason,
        "removed_exports": [
            {"request_id": str(one.removed_id), "repeated_by": _id(one.repeat_id)} for one in removed.first
        ],
        "removed_exports_total": removed.all,
    }


def _id(request_id: UUID | None) -> str | None:
    return str(request_id) if request_id else None


def _finished_at(request: ComplianceRequest) -> datetime | None:
    return {
        Status.COMPLETED.value: request.completed_at,
        Status.FAILED.value: request.failed_at,
        Status.CANCELLED.value: request.cancelled_at,
        Status.REJECTED.value: request.rejected_at,
    }.get(request.status)


def _export(request: ComplianceRequest, outcomes: Outcomes, *, shows_key: bool) -> dict[str, Any] | None:
    """Return the file of an export that is whole; its key is null once the object is gone."""
    export: Export | None = outcomes.exports.get(request.pk)
    if export is None or export.finished_at is None:
        return None
    return {
        "hosting": export.hosting,
        "bucket": export.bucket or settings.S3_BUCKET,
        "key": export.key if shows_key else None,
        "rows": export.rows,
        "bytes": export.bytes,
        "sha256": export.sha256,
        "expires_at": rfc3339(export.expires_at),
        "files": [
            {
                "file_id": copy.file_id,
                "key": copy.key if shows_key else None,
                "bytes": copy.bytes,
                "sha256": copy.sha256,
            }
            for copy in outcomes.copies.get(export.pk, ())
        ],
    }
