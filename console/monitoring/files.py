"""The lists of exported files and of daily extracts, and rebuilding selected extracts.

Object keys contain UCI values and are not shown.
"""

from django.conf import settings
from django.contrib import messages
from django.db.models import Q
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect

from chatbots.models import Bucket
from common.texts import counted
from compliance.models import ComplianceRequest, Export
from console.common.lists import FilterForm, MergedQuery, choice_filter
from console.common.pages import action, back_to, page, render
from console.common.scope import DECIDE, MANAGE_REQUESTS, actor_of, may, scope_of, selected
from conversations.extracts import days
from conversations.models import DailyExtract

_FINISHED = (Q(kind=ComplianceRequest.Kind.EXPORT, status=ComplianceRequest.Status.COMPLETED),)


@page
def exports(request: HttpRequest) -> HttpResponse:
    scope = scope_of(request)
    # By request: its index is in the order of the list.
    completed = ComplianceRequest.objects.select_related("export", "chatbot").defer(*ComplianceRequest.UNREAD)
    found = MergedQuery(completed, scope.ids, branches=_FINISHED).page(request)
    return render(
        request,
        "console/monitoring/exports.html",
        title="Exports",
        scope=scope,
        page=found,
        rows=[(one, one.export, *_location(one.export), _may_download(request, one)) for one in found.rows],
        grace_days=settings.EXPORT_GRACE_DAYS.days,
        hosted_days=settings.HOSTED_FILE_DAYS.days,
    )


def _may_download(request: HttpRequest, filed: ComplianceRequest) -> bool:
    is_hosted = filed.export.hosting == Bucket.Hosting.HOSTED
    return is_hosted and filed.export.is_available and may(request, filed.chatbot, MANAGE_REQUESTS)


def _location(export: Export) -> tuple[str, str]:
    """Return where the file is, and the tone of this state."""
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


class ExtractFilterForm(FilterForm):
    state = choice_filter(State.choices)


@page
def extracts(request: HttpRequest) -> HttpResponse:
    scope = scope_of(request)
    form = ExtractFilterForm(request.GET)
    given = form.cleaned_data["state"] if form.is_valid() else None
    branches = [] if given is None else [Q(state=given) if given else Q()]
    rows = DailyExtract.objects.select_related("chatbot")
    query = MergedQuery(rows, scope.ids, branches=branches, chatbot_order="-chatbot_id", first_is_unique=True)
    found = query.page(request, ordering=("-day", "-id"))
    return render(
        request,
        "console/monitoring/extracts.html",
        title="Daily extracts",
        scope=scope,
        form=form,
        page=found,
        tones=_EXTRACT_TONES,
        selectable={one.pk for one in found.rows if _is_settled(one) and may(request, one.chatbot, DECIDE)},
        here=request.get_full_path(),
    )


def _is_settled(extract: DailyExtract) -> bool:
    """Return whether the extract can be rebuilt. One in the client's bucket is the client's."""
    is_delivered = extract.hosting == Bucket.Hosting.CLIENT and extract.state == State.DONE
    return extract.state in days.SETTLED and not is_delivered


@action
def rebuild(request: HttpRequest) -> HttpResponse:
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
