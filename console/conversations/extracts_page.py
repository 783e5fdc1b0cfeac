"""The list of daily extracts, and rebuilding selected ones."""

from dataclasses import dataclass

from django import forms
from django.contrib import messages
from django.db.models import Q, QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect

from chatbots.models import Bucket
from console.common.lists import MergedQuery
from console.common.pages import action, back_to, page, render
from console.common.scope import DECIDE, actor_of, may, require_in_all, scope_of, within_scope
from conversations.extracts import rebuilds
from conversations.models import DailyExtract

State = DailyExtract.State

PAGE_SIZE = 50

_TONES = {
    State.PENDING: "info",
    State.DONE: "ok",
    State.STALE: "warn",
    State.FAILED: "bad",
    State.EXPIRED: "mute",
}


class ExtractFilterForm(forms.Form):
    use_required_attribute = False

    state = forms.ChoiceField(choices=[("", "Any"), *State.choices], required=False)


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
    days = MergedQuery(rows, scope.ids, branches=branches, chatbot_order="-chatbot_id")
    found = days.page(request, ordering=("-day", "-id"), size=PAGE_SIZE)
    shown = [_row(request, one) for one in found.rows]
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


def _row(request: HttpRequest, extract: DailyExtract) -> ExtractRow:
    is_clients = extract.hosting == Bucket.Hosting.CLIENT
    is_settled = extract.state in rebuilds.SETTLED and not (is_clients and extract.state == State.DONE)
    return ExtractRow(
        extract,
        _TONES[State(extract.state)],
        f"Client's bucket {extract.bucket}".strip() if is_clients else "Operator's bucket",
        is_settled and may(request, extract.chatbot, DECIDE),
    )


@action
def rebuild(request: HttpRequest) -> HttpResponse:
    """Order the selected days to be rebuilt, and report how many were."""
    selected = _selected(request)
    number = selected.count()
    ordered = rebuilds.order_extracts(selected, actor=actor_of(request))
    if not number:
        messages.error(request, "Select days first.")
    if ordered:
        messages.success(request, f"{ordered} day{'s' * (ordered != 1)} will be rebuilt within a minute.")
    if skipped := number - ordered:
        why = "already queued, in the client's bucket, or expired."
        messages.warning(request, f"{skipped} skipped: {why}")
    return redirect(back_to(request, "console:extracts"))


def _selected(request: HttpRequest) -> QuerySet[DailyExtract]:
    """Return the selected days. Raises Http404 for an unknown one, PermissionDenied for lack of a role."""
    texts = request.POST.getlist("selected")[:PAGE_SIZE]
    if not all(text.isascii() and text.isdecimal() and len(text) < 19 for text in texts):
        raise Http404
    ids = {int(text) for text in texts}
    found = within_scope(DailyExtract.objects.filter(pk__in=ids), request, chatbot="chatbot_id")
    chatbots = list(found.values_list("chatbot_id", flat=True))
    if len(chatbots) < len(ids):
        raise Http404
    require_in_all(request, chatbots, DECIDE)
    return found
