"""Callbacks to clients, sending selected ones again, and email notifications to officers.

Only scheme and host of a callback's URL are shown. Officers choose the chatbots for which they get emails.
"""

from collections import Counter

from django.conf import settings
from django.contrib import messages
from django.contrib.auth.models import User
from django.db.models import Q
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect

from chatbots.models import Membership
from chatbots.operations.chatbots import set_mails
from compliance.callbacks.resend import resend_one
from compliance.deadlines import DUE_SOON_WITHIN
from compliance.errors import Refused
from compliance.models import Callback, Mailbox
from compliance.notifications import digest
from console.common.lists import FilterForm, MergedQuery, choice_filter
from console.common.pages import action, back_to, form, page, render, report
from console.common.scope import MANAGE_REQUESTS, Role, actor_of, may, scope_of, selected

State = Callback.State

_STATES = ("completed", "failed", "on_hold", "rejected", "cancelled")
_EVENTS = (*_STATES, *Callback.DeadlineEvent.values)
_TONES = {State.DELIVERED: "ok", State.WAITING: "info", State.GIVEN_UP: "bad"}


class CallbackFilterForm(FilterForm):
    """The filters in the URL. The list is empty if one of them is invalid."""

    state = choice_filter(State.choices)
    event = choice_filter((one, f"request.{one}") for one in _EVENTS)
    error = choice_filter(((one.value, one.value) for one in Callback.Failure), label="Last error")

    def branches(self) -> list[Q]:
        """Return a condition for each state. Most of the rows are delivered callbacks, which have no error."""
        given = self.cleaned_data
        states = [given["state"]] if given["state"] else []
        if given["error"]:
            states = [one for one in (State.WAITING, State.GIVEN_UP) if given["state"] in ("", one)]
            if not states:
                return []
        event = given["event"]
        is_state = event in _STATES
        common = Q(deadline_event="" if is_state else event) if event else Q()
        common &= Q(status=event) if is_state else Q()
        common &= Q(last_error=given["error"]) if given["error"] else Q()
        return [common & Q(state=state) for state in states] or [common]


@page
def callbacks(request: HttpRequest) -> HttpResponse:
    scope = scope_of(request)
    filters = CallbackFilterForm(request.GET)
    branches = filters.branches() if filters.is_valid() else []
    query = MergedQuery(Callback.objects.select_related("chatbot"), scope.ids, branches=branches)
    found = query.page(request)
    return render(
        request,
        "console/monitoring/callbacks.html",
        title="Callbacks",
        scope=scope,
        form=filters,
        page=found,
        tones=_TONES,
        selectable={one.pk for one in found.rows if may(request, one.chatbot, MANAGE_REQUESTS)},
        here=request.get_full_path(),
    )


@action
def resend(request: HttpRequest) -> HttpResponse:
    ids = list(selected(request, Callback.objects.order_by("pk"), MANAGE_REQUESTS).values_list("pk", flat=True))
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
    report(request, "callback", results, "will be sent again within a minute.")
    return redirect(back_to(request, "console:callbacks"))


@form
def mails(request: HttpRequest) -> HttpResponse:
    user = request.user
    assert isinstance(user, User)  # noqa: S101  (the page requires a login)
    memberships = Membership.objects.filter(user=user, role=Role.OFFICER).select_related("chatbot")
    roles = list(memberships.order_by("chatbot__name", "pk"))
    if request.method == "POST":
        # A role that was given after the page was loaded is not in `shown`. Its setting is not changed.
        shown, chosen = request.POST.getlist("shown"), request.POST.getlist("wanted")
        wanted = {one.chatbot_id: str(one.chatbot_id) in chosen for one in roles if str(one.chatbot_id) in shown}
        set_mails(user=user, wanted=wanted, actor=actor_of(request))
        messages.success(request, "Saved.")
        return redirect("console:mails")
    return render(
        request,
        "console/monitoring/mails.html",
        title="Email notifications",
        roles=roles,
        has_address=bool(user.email),
        is_on=settings.MAILS,
        due_soon_days=DUE_SOON_WITHIN.days,
        digest_at=digest.BEGINS_AT,
        digest_zone=next((one.chatbot.timezone for one in roles if one.mails), ""),
        mailbox=Mailbox.objects.filter(user=user).first(),
    )
