"""The daily extracts of chatbots, day by day, and having days made again."""

from dataclasses import dataclass

from django import forms
from django.contrib import messages
from django.db.models import Q, QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect

from chatbots.models import Bucket
from console.common.newest import Newest
from console.common.pages import action, page, render
from console.common.scope import DECIDE, actor_of, may, within_scope
from console.common.selecting import back_to, require_in_all
from console.common.several import scope_of
from conversations.extracts import rebuilds
from conversations.models import DailyExtract

State = DailyExtract.State

# As many as a page shows.
MOST_SELECTED = 50

_TONES = {
    State.PENDING: "info",
    State.DONE: "ok",
    State.STALE: "warn",
    State.FAILED: "bad",
    State.EXPIRED: "mute",
}


class Filters(forms.Form):
    use_required_attribute = False

    state = forms.ChoiceField(choices=[("", "Any"), *State.choices], required=False)


@dataclass(frozen=True)
class Row:
    extract: DailyExtract
    tone: str
    where: str
    may_order: bool


@page
def extracts(request: HttpRequest) -> HttpResponse:
    scope = scope_of(request)
    form = Filters(request.GET)
    given = form.cleaned_data["state"] if form.is_valid() else None
    branches = [] if given is None else [Q(state=given) if given else Q()]
    rows = DailyExtract.objects.select_related("chatbot")
    days = Newest(rows, scope.ids, branches=branches, chatbot_order="-chatbot_id")
    found = days.page(request, ordering=("-day", "-id"), size=MOST_SELECTED)
    shown = [_row(request, one) for one in found.rows]
    return render(
        request,
        "console/monitoring/extracts.html",
        title="Daily extracts",
        scope=scope,
        form=form,
        narrows=bool(form.data.get("state")),
        page=found,
        rows=shown,
        may_order=any(row.may_order for row in shown),
        here=request.get_full_path(),
    )


def _row(request: HttpRequest, extract: DailyExtract) -> Row:
    is_clients = extract.hosting == Bucket.Hosting.CLIENT
    is_settled = extract.state in rebuilds.SETTLED and not (is_clients and extract.state == State.DONE)
    return Row(
        extract,
        _TONES[State(extract.state)],
        f"The client's bucket {extract.bucket}".strip() if is_clients else "Hosted",
        is_settled and may(request, extract.chatbot, DECIDE),
    )


@action
def make_again(request: HttpRequest) -> HttpResponse:
    """Have the selected days made again, and say how many are."""
    selected = _selected(request)
    number = selected.count()
    ordered = rebuilds.order_extracts(selected, actor=actor_of(request))
    if not number:
        messages.error(request, "Select days first.")
    if ordered:
        messages.success(request, f"{ordered} day{'s' * (ordered != 1)} to be made again, within a minute.")
    if left := number - ordered:
        why = "they wait already, are in the client's bucket, or their file is past its days."
        messages.warning(request, f"{left} left as they are: {why}")
    return redirect(back_to(request, "console:extracts"))


def _selected(request: HttpRequest) -> QuerySet[DailyExtract]:
    """Return the selected days. Raises Http404 for one that the user may not see, PermissionDenied by role."""
    texts = request.POST.getlist("selected")[:MOST_SELECTED]
    if not all(text.isascii() and text.isdecimal() and len(text) < 19 for text in texts):
        raise Http404
    ids = {int(text) for text in texts}
    found = within_scope(DailyExtract.objects.filter(pk__in=ids), request, chatbot="chatbot_id")
    chatbots = list(found.values_list("chatbot_id", flat=True))
    if len(chatbots) < len(ids):
        raise Http404
    require_in_all(request, chatbots, DECIDE)
    return found
