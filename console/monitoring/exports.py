"""The files of exports: where each is, and until when. A key bears the chatter's value and is not shown."""

from dataclasses import dataclass

from django.conf import settings
from django.db.models import Q
from django.http import HttpRequest, HttpResponse
from django.urls import reverse

from chatbots.models import Bucket
from compliance.models import ComplianceRequest, Export
from console.common.newest import Newest
from console.common.pages import page, render
from console.common.scope import MANAGE_REQUESTS, may
from console.common.several import scope_of

_FINISHED = (Q(kind=ComplianceRequest.Kind.EXPORT, status=ComplianceRequest.Status.COMPLETED),)
_UNREAD = ("uci_value", "uci_digest", "conversation_digests")


@dataclass(frozen=True)
class Row:
    """An export's file. `where` and `tone` say what has become of it; `download` is an address while there is one."""

    request: ComplianceRequest
    export: Export
    where: str
    tone: str
    download: str

    @property
    def copies(self) -> str:
        return f"{self.request.files:,} files beside it" if self.request.files else ""


@page
def exports(request: HttpRequest) -> HttpResponse:
    scope = scope_of(request)
    # An export has the request's chatbot; that one's index is in the order of the filing.
    completed = ComplianceRequest.objects.select_related("export", "chatbot").defer(*_UNREAD)
    found = Newest(completed, scope.ids, branches=_FINISHED).page(request)
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


def _row(request: HttpRequest, filed: ComplianceRequest) -> Row:
    export = filed.export
    where, tone = _whereabouts(export)
    is_there = tone == "ok" and export.hosting == Bucket.Hosting.HOSTED
    may_fetch = is_there and may(request, filed.chatbot, MANAGE_REQUESTS)
    return Row(filed, export, where, tone, reverse("console:request_download", args=[filed.pk]) if may_fetch else "")


def _whereabouts(export: Export) -> tuple[str, str]:
    if export.hosting == Bucket.Hosting.CLIENT:
        return f"In the client's bucket {export.bucket}", "info"
    if export.key is None:
        return "Removed", "mute"
    if export.is_due:
        return "About to be removed", "warn"
    if _is_shortened(export):
        return "Kept through a deletion", "ok"
    return "Hosted", "ok"


def _is_shortened(export: Export) -> bool:
    """Say whether a deletion has met it, and left it its grace."""
    finished, expires = export.finished_at, export.expires_at
    return finished is not None and expires is not None and expires <= finished + settings.EXPORT_GRACE_DAYS
