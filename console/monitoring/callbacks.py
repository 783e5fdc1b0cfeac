"""What clients were told of their requests, and telling them again. Of an address its scheme and host are shown."""

from collections import Counter
from dataclasses import dataclass
from uuid import UUID

from django import forms
from django.contrib import messages
from django.db.models import Q
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect

from chatbots.callback_urls import receiver_of
from compliance.callbacks.resend import resend_one
from compliance.errors import Refused
from compliance.models import Callback
from console.common.newest import Newest
from console.common.pages import action, page, render
from console.common.scope import MANAGE_REQUESTS, actor_of, may, within_scope
from console.common.selecting import back_to, require_in_all
from console.common.several import scope_of

State = Callback.State

# As many as a page shows.
MOST_SELECTED = 50

_TOLD = ("completed", "failed", "on_hold", "rejected", "cancelled")
_TONES = {State.DELIVERED: "ok", State.WAITING: "info", State.GIVEN_UP: "bad"}


@dataclass(frozen=True)
class Row:
    callback: Callback
    state: str
    tone: str
    receiver: str
    error: str
    may_resend: bool


class Filters(forms.Form):
    """What the list is asked for; a value that is none of those offered finds nothing."""

    use_required_attribute = False

    state = forms.ChoiceField(choices=[("", "Any"), *State.choices], required=False)
    event = forms.ChoiceField(choices=[("", "Any"), *((one, f"request.{one}") for one in _TOLD)], required=False)
    error = forms.ChoiceField(
        label="Last error",
        choices=[("", "Any"), *((one.value, one.value) for one in Callback.Failure)],
        required=False,
    )

    def branches(self) -> list[Q]:
        """Return the ranges to look in: what was delivered has no error, and is most of all."""
        given = self.cleaned_data
        states = [given["state"]] if given["state"] else []
        if given["error"]:
            states = [one for one in (State.WAITING, State.GIVEN_UP) if given["state"] in ("", one)]
            if not states:
                return []
        also = Q(status=given["event"]) if given["event"] else Q()
        also &= Q(last_error=given["error"]) if given["error"] else Q()
        return [also & Q(state=state) for state in states] or [also]


@page
def callbacks(request: HttpRequest) -> HttpResponse:
    scope = scope_of(request)
    form = Filters(request.GET)
    branches = form.branches() if form.is_valid() else []
    told = Newest(Callback.objects.select_related("chatbot"), scope.ids, branches=branches)
    found = told.page(request, size=MOST_SELECTED)
    rows = [_row(request, one) for one in found.rows]
    return render(
        request,
        "console/monitoring/callbacks.html",
        title="Callbacks",
        scope=scope,
        form=form,
        narrows=any(form.data.get(name) for name in form.fields),
        page=found,
        rows=rows,
        may_resend=any(row.may_resend for row in rows),
        here=request.get_full_path(),
    )


def _row(request: HttpRequest, callback: Callback) -> Row:
    state = State(callback.state)
    return Row(
        callback,
        state.label,
        _TONES[state],
        receiver_of(callback.url) or "",
        Callback.Failure(callback.last_error).label if callback.last_error else "",
        may(request, callback.chatbot, MANAGE_REQUESTS),
    )


@action
def resend(request: HttpRequest) -> HttpResponse:
    """Send the selected callbacks again, each by the operation, and say how it went."""
    ids = _selected(request)
    actor = actor_of(request)
    went: Counter[str] = Counter()
    for callback_id in ids:
        try:
            resend_one(callback_id=callback_id, actor=actor)
        except Refused as refused:
            went[refused.detail] += 1
        else:
            went[""] += 1
    if not ids:
        messages.error(request, "Select callbacks first.")
    for why, number in sorted(went.items()):
        text = f"{number} callback{'s' * (number != 1)}: {why or 'to be sent again, within a minute.'}"
        (messages.error if why else messages.success)(request, text)
    return redirect(back_to(request, "console:callbacks"))


def _selected(request: HttpRequest) -> list[UUID]:
    """Return the selected callbacks. Raises Http404 for one that the user may not see, PermissionDenied by role."""
    try:
        ids = [UUID(text) for text in request.POST.getlist("selected")[:MOST_SELECTED]]
    except ValueError:
        raise Http404 from None
    seen = within_scope(Callback.objects.filter(pk__in=ids), request, chatbot="chatbot_id")
    found: dict[UUID, int] = dict(seen.order_by("id").values_list("pk", "chatbot_id"))
    if len(found) < len(set(ids)):
        raise Http404
    require_in_all(request, found.values(), MANAGE_REQUESTS)
    return list(found)
