"""The lists of exported files and of daily extracts, and rebuilding selected extracts.

Object keys contain UCI values and are not shown.
"""

from dataclasses import dataclass

from django import forms
from django.conf import settings
from django.contrib import messages
from django.db.models import Q
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse

from chatbots.models import Bucket
from common.texts import counted
from compliance.models import ComplianceRequest, Export
from console.common.lists import MergedQuery, choice_filter
from console.common.pages import action, back_to, page, render
from console.common.scope import DECIDE, MANAGE_REQUESTS, actor_of, may, scope_of, selected
from console.requests.list_page import UNREAD
from conversations.extracts import days
from conversations.models import DailyExtract

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
        rows=[_export_row(request, one) for one in found.rows],
        grace_days=settings.EXPORT_GRACE_DAYS.days,
        hosted_days=settings.HOSTED_FILE_DAYS.days,
    )


def _export_row(request: HttpRequest, filed: ComplianceRequest) -> ExportRow:
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
    """Return whether a deletion has shortened the time for which the export is kept."""
    finished, expires = export.finished_at, export.expires_at
    return finished is not None and expires is not None and expires <= finished + settings.EXPORT_GRACE_DAYS


State = DailyExtract.State

_EXTRACT_TONES = {
    State.PENDING: "info",
    State.DONE: "ok",
    State.STALE: "warn",
    State.FAILED: "bad",
    State.EXPIRED: "mute",
}


class ExtractFilterForm(forms.Form):
    state = choice_filter(State.choices)


@dataclass(frozen=True)
class ExtractRow:
    extract: DailyExtract
    tone: str
    location: str
    may_rebuild: bool


@page
def extracts(request: HttpRequest) -> HttpResponse:
    scope = scope_of(request)
    form = ExtractFilterForm(request.GET)
    given = form.cleaned_data["state"] if form.is_valid() else None
    branches = [] if given is None else [Q(state=given) if given else Q()]
    rows = DailyExtract.objects.select_related("chatbot")
    query = MergedQuery(rows, scope.ids, branches=branches, chatbot_order="-chatbot_id", first_is_unique=True)
    found = query.page(request, ordering=("-day", "-id"))
    shown = [_extract_row(request, one) for one in found.rows]
    return render(
        request,
        "console/monitoring/extracts.html",
        title="Daily extracts",
        scope=scope,
        form=form,
        is_filtered=bool(form.data.get("state")),
        page=found,
        rows=shown,
        may_rebuild=any(row.may_rebuild for row in shown),
        here=request.get_full_path(),
    )


def _extract_row(request: HttpRequest, extract: DailyExtract) -> ExtractRow:
    is_clients = extract.hosting == Bucket.Hosting.CLIENT
    is_settled = extract.state in days.SETTLED and not (is_clients and extract.state == State.DONE)
    return ExtractRow(
        extract,
        _EXTRACT_TONES[State(extract.state)],
        f"Client's bucket {extract.bucket}".strip() if is_clients else "Operator's bucket",
        is_settled and may(request, extract.chatbot, DECIDE),
    )


@action
def rebuild(request: HttpRequest) -> HttpResponse:
    """Order a rebuild of the selected days, and report how many are rebuilt."""
    chosen = selected(request, DailyExtract.objects.all(), DECIDE)
    number = chosen.count()
    ordered = days.order_extracts(chosen, actor=actor_of(request))
    if not number:
        messages.error(request, "Select days first.")
    if ordered:
        messages.success(request, f"{counted(ordered, 'day')} will be rebuilt within a minute.")
    if skipped := number - ordered:
        why = "already queued, in the client's bucket, or expired."
        messages.warning(request, f"{skipped} skipped: {why}")
    return redirect(back_to(request, "console:extracts"))
