"""The request object of the API: what a request says of itself, in the words of the contract."""

from datetime import datetime
from typing import Any

from django.conf import settings

from compliance.erasure import extracts
from compliance.models import ComplianceRequest, Export
from compliance.operations import is_retryable, kept_exports
from config.times import rfc3339

Status = ComplianceRequest.Status

# An export can have any number of files; the answer stays small.
MOST_FILES = 100
_OPEN = {Status.ACCEPTED, Status.PROCESSING}
_NO_DAYS = extracts.Days(clean=0, waits=0, failure=None)


def represent(request: ComplianceRequest, *, status_url: str, shows_key: bool) -> dict[str, Any]:
    """Return the request object. It never names the chatter, save through the key of a hosted export, which
    bears the value: `shows_key` says whether the caller may read it (scope `requests:read`).
    """
    days = _days(request)
    return {
        "request_id": str(request.pk),
        "kind": request.kind,
        "status": request.status,
        "hold_reason": request.hold_reason,
        "result": request.result,
        "reference": request.reference,
        "received_at": rfc3339(request.received_at),
        "not_before": rfc3339(request.not_before),
        "due_at": rfc3339(request.due_at),
        "started_at": rfc3339(request.started_at),
        "finished_at": rfc3339(_finished_at(request)),
        "status_url": status_url,
        "progress": {
            "conversations_done": request.conversations,
            "conversations_total": request.conversations_total,
            "extracts_done": days.clean,
            "extracts_total": days.total,
        },
        "waiting_for": "extracts" if days.waits and request.status in _OPEN else None,
        "counts": {
            "conversations": request.conversations,
            "messages": request.messages,
            "identities": request.identities,
            "variable_values": request.variable_values,
            "files": request.files,
            "exports": request.exports,
            "extracts": request.extracts,
        },
        "export": _export(request, shows_key=shows_key),
        "kept_exports": _kept_exports(request),
        "delivered_extracts": _delivered_extracts(request),
        "error": _error(request),
    }


def _finished_at(request: ComplianceRequest) -> datetime | None:
    return {
        Status.COMPLETED.value: request.completed_at,
        Status.FAILED.value: request.failed_at,
        Status.CANCELLED.value: request.cancelled_at,
        Status.REJECTED.value: request.rejected_at,
    }.get(request.status)


def _export(request: ComplianceRequest, *, shows_key: bool) -> dict[str, Any] | None:
    """Return the file of an export that is whole; its key is null once the object is gone."""
    is_export = request.kind == ComplianceRequest.Kind.EXPORT
    export: Export | None = getattr(request, "export", None) if is_export else None
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
        "files": _files(export, shows_key=shows_key) if request.include_files else [],
    }


def _files(export: Export, *, shows_key: bool) -> list[dict[str, Any]]:
    """Return the copies of uploaded files beside the export, the first of them where they are many."""
    return [
        {
            "file_id": copy.file_id,
            "key": copy.key if shows_key else None,
            "bytes": copy.bytes,
            "sha256": copy.sha256,
        }
        for copy in export.copies.order_by("file_id")[:MOST_FILES]
    ]


def _kept_exports(request: ComplianceRequest) -> list[dict[str, Any]]:
    """Return what a completed deletion has left of the chatter's exports: hosted copies until their grace is over,
    and what lies in a client's bucket. Never a key."""
    if request.kind != ComplianceRequest.Kind.DELETION or request.status != Status.COMPLETED:
        return []
    return [
        {
            "request_id": str(export.request_id),
            "hosting": export.hosting,
            "finished_at": rfc3339(export.finished_at),
            "sha256": export.sha256,
            "expires_at": rfc3339(export.expires_at),
            "removed_at": rfc3339(export.removed_at),
        }
        for export in kept_exports(request)
    ]


def _days(request: ComplianceRequest) -> extracts.Days:
    """Return the days whose extracts a deletion has to have made again; it knows them once it has begun."""
    if request.kind != ComplianceRequest.Kind.DELETION or request.cut_at is None:
        return _NO_DAYS
    return extracts.look([request.pk]).get(request.pk, _NO_DAYS)


def _delivered_extracts(request: ComplianceRequest) -> list[dict[str, Any]]:
    """Return the daily extracts in the client's bucket that hold what a completed deletion erased."""
    if request.kind != ComplianceRequest.Kind.DELETION or request.status != Status.COMPLETED:
        return []
    return [
        {"day": one.day, "finished_at": rfc3339(one.finished_at), "sha256": one.sha256}
        for one in extracts.delivered(request.pk)
    ]


def _error(request: ComplianceRequest) -> dict[str, Any] | None:
    if request.status != Status.FAILED:
        return None
    return {
        "code": request.error_code,
        "detail": request.error_detail,
        "retryable": is_retryable(request),
    }
