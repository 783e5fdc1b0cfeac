"""The list of exported files. Object keys contain UCI values and are not shown."""

from dataclasses import dataclass

from django.conf import settings
from django.db.models import Q
from django.http import HttpRequest, HttpResponse
from django.urls import reverse

from chatbots.models import Bucket
from compliance.models import ComplianceRequest, Export
from console.common.lists import MergedQuery
from console.common.pages import page, render
from console.common.scope import MANAGE_REQUESTS, may, scope_of
from console.requests.list_page import UNREAD

_FINISHED = (Q(kind=ComplianceRequest.Kind.EXPORT, status=ComplianceRequest.Status.COMPLETED),)


@dataclass(frozen=True)
class ExportRow:
    """An exported file. `location` and `tone` are its state; `download` is a URL or empty."""

    request: ComplianceRequest
    export: Export
    location: str
    tone: str
    download: str

    @property
    def copies(self) -> str:
        return f"+ {self.request.files:,} uploaded files" if self.request.files else ""


@page
def exports(request: HttpRequest) -> HttpResponse:
    scope = scope_of(request)
    # By request: its index is in the order of the list.
    completed = ComplianceRequest.objects.select_related("export", "chatbot").defer(*UNREAD)
    found = MergedQuery(completed, scope.ids, branches=_FINISHED).page(request)
    return render(
        request,
        "console/monitoring/exports.html",
        title="Exports",
        scope=scope,
        page=found,
        rows=[_row(request, one) for one in found.rows],
        grace_days=settings.EXPORT_GRACE_DAYS.days,
        hosted_days=settings.HOSTED_FILE_DAYS.days,
    )


def _row(request: HttpRequest, filed: ComplianceRequest) -> ExportRow:
    export = filed.export
    location, tone = _location(export)
    is_available = tone == "ok" and export.hosting == Bucket.Hosting.HOSTED
    may_download = is_available and may(request, filed.chatbot, MANAGE_REQUESTS)
    return ExportRow(
        filed, export, location, tone, reverse("console:request_download", args=[filed.pk]) if may_download else ""
    )


def _location(export: Export) -> tuple[str, str]:
    if export.hosting == Bucket.Hosting.CLIENT:
        return f"Client's bucket {export.bucket}", "info"
    if export.key is None:
        return "Deleted", "mute"
    if export.is_due:
        return "Being deleted", "warn"
    if _is_shortened(export):
        return "Operator's bucket, kept after a deletion", "ok"
    return "Operator's bucket", "ok"


def _is_shortened(export: Export) -> bool:
    """Return whether a deletion has reduced the time for which it is kept."""
    finished, expires = export.finished_at, export.expires_at
    return finished is not None and expires is not None and expires <= finished + settings.EXPORT_GRACE_DAYS
