"""The list of callbacks, and sending selected ones again. Only scheme and host of a URL are shown."""

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
from console.common.lists import MergedQuery
from console.common.pages import action, back_to, page, render
from console.common.scope import MANAGE_REQUESTS, actor_of, may, require_in_all, scope_of, within_scope

State = Callback.State

PAGE_SIZE = 50

_EVENTS = ("completed", "failed", "on_hold", "rejected", "cancelled")
_TONES = {State.DELIVERED: "ok", State.WAITING: "info", State.GIVEN_UP: "bad"}


@dataclass(frozen=True)
class CallbackRow:
    callback: Callback
    state: str
    tone: str
    receiver: str
    error: str
    may_resend: bool


class CallbackFilterForm(forms.Form):
    """The filters in the URL; with an invalid one the list is empty."""

    use_required_attribute = False

    state = forms.ChoiceField(choices=[("", "Any"), *State.choices], required=False)
    event = forms.ChoiceField(choices=[("", "Any"), *((one, f"request.{one}") for one in _EVENTS)], required=False)
    error = forms.ChoiceField(
        label="Last error",
        choices=[("", "Any"), *((one.value, one.value) for one in Callback.Failure)],
        required=False,
    )

    def branches(self) -> list[Q]:
        """Return a condition for each state. Delivered callbacks have no error, and are most of the rows."""
        given = self.cleaned_data
        states = [given["state"]] if given["state"] else []
        if given["error"]:
            states = [one for one in (State.WAITING, State.GIVEN_UP) if given["state"] in ("", one)]
            if not states:
                return []
        common = Q(status=given["event"]) if given["event"] else Q()
        common &= Q(last_error=given["error"]) if given["error"] else Q()
        return [common & Q(state=state) for state in states] or [common]


@page
def callbacks(request: HttpRequest) -> HttpResponse:
    scope = scope_of(request)
    form = CallbackFilterForm(request.GET)
    branches = form.branches() if form.is_valid() else []
    query = MergedQuery(Callback.objects.select_related("chatbot"), scope.ids, branches=branches)
    found = query.page(request, size=PAGE_SIZE)
    rows = [_row(request, one) for one in found.rows]
    return render(
        request,
        "console/monitoring/callbacks.html",
        title="Callbacks",
        scope=scope,
        form=form,
        is_filtered=any(form.data.get(name) for name in form.fields),
        page=found,
        rows=rows,
        may_resend=any(row.may_resend for row in rows),
        here=request.get_full_path(),
    )


def _row(request: HttpRequest, callback: Callback) -> CallbackRow:
    state = State(callback.state)
    return CallbackRow(
        callback,
        state.label,
        _TONES[state],
        receiver_of(callback.url) or "",
        Callback.Failure(callback.last_error).label if callback.last_error else "",
        may(request, callback.chatbot, MANAGE_REQUESTS),
    )


@action
def resend(request: HttpRequest) -> HttpResponse:
    """Send the selected callbacks again, and report the results."""
    ids = _selected(request)
    actor = actor_of(request)
    results: Counter[str] = Counter()
    for callback_id in ids:
        try:
            resend_one(callback_id=callback_id, actor=actor)
        except Refused as refused:
            results[refused.detail] += 1
        else:
            results[""] += 1
    if not ids:
        messages.error(request, "Select callbacks first.")
    for error, number in sorted(results.items()):
        text = f"{number} callback{'s' * (number != 1)}: {error or 'will be sent again within a minute.'}"
        (messages.error if error else messages.success)(request, text)
    return redirect(back_to(request, "console:callbacks"))


def _selected(request: HttpRequest) -> list[UUID]:
    """Return the selected callbacks. Raises Http404 for an unknown one, PermissionDenied for lack of a role."""
    try:
        ids = [UUID(text) for text in request.POST.getlist("selected")[:PAGE_SIZE]]
    except ValueError:
        raise Http404 from None
    seen = within_scope(Callback.objects.filter(pk__in=ids), request, chatbot="chatbot_id")
    found: dict[UUID, int] = dict(seen.order_by("id").values_list("pk", "chatbot_id"))
    if len(found) < len(set(ids)):
        raise Http404
    require_in_all(request, found.values(), MANAGE_REQUESTS)
    return list(found)
