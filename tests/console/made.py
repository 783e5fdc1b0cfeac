"""Requests in each state, for tests of pages."""

from typing import Any

from django.utils import timezone

from chatbots.models import Chatbot
from compliance.models import ComplianceRequest
from tests import factories

# The chatter of each request, which no page may show.
VALUE = "jane.doe@example.org"

Status = ComplianceRequest.Status

# Filters of the list of requests, beside a chatbot. No `received_to`: ids of large fillings are no UUIDv7, so
# they do not contain the time of filing.
LISTS: list[tuple[str, dict[str, str]]] = [
    ("requests", filters)
    for filters in (
        *({"view": view} for view in ("all", "needs-attention", "in-progress")),
        *({"status": status.value} for status in Status),
        *({"origin": origin.value} for origin in ComplianceRequest.Origin),
        *({"due": due} for due in ("overdue", "soon", "ahead")),
        {"due": "ahead", "due_from": "2026-01-01", "due_to": "2027-12-31"},
        {"kind": "export"},
        {"kind": "export", "origin": "command"},
        {"kind": "deletion", "status": "failed"},
        {"view": "needs-attention", "due": "overdue"},
        {"hold_reason": "export_pending"},
        {"reference": "T-1"},
        {"received_from": "2020-01-01", "kind": "deletion"},
    )
]


def waiting(chatbot: Chatbot, *, uci_value: str | None = VALUE, **fields: Any) -> ComplianceRequest:
    return factories.deletion_of(chatbot, uci_value, **fields)


def held(chatbot: Chatbot, reason: str = "too_many_conversations", **fields: Any) -> ComplianceRequest:
    return waiting(chatbot, status=Status.ON_HOLD, hold_reason=reason, held_at=timezone.now(), **fields)


def failed(chatbot: Chatbot, **fields: Any) -> ComplianceRequest:
    given: dict[str, Any] = {"error_code": "storage_unavailable", "error_detail": "It did not answer.", "attempts": 5}
    return waiting(chatbot, status=Status.FAILED, failed_at=timezone.now(), **given | fields)


def completed(chatbot: Chatbot, **fields: Any) -> ComplianceRequest:
    now = timezone.now()
    ended = {"started_at": now, "cutoff_at": now, "cutoff_number": 0, "completed_at": now, "result": "done"}
    request = waiting(chatbot)
    ComplianceRequest.objects.filter(pk=request.pk).update(status=Status.COMPLETED, uci_value=None, **ended | fields)
    request.refresh_from_db()
    return request


def status_of(request: ComplianceRequest) -> str:
    return ComplianceRequest.objects.get(pk=request.pk).status
