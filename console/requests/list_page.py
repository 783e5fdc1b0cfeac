"""The list of requests: its filters, the query behind them, its rows, and decisions on selected ones."""

from collections import defaultdict
from collections.abc import Mapping
from datetime import date, datetime, timedelta
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

from django import forms
from django.conf import settings
from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.db.models import Case, DateTimeField, Q, Value, When
from django.db.models.functions import Now
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect

from chatbots.models import Chatbot
from common.texts import REFERENCE, RULES, counted
from common.times import EARLIEST, LATEST, midnight
from compliance.deadlines import DUE_SOON_WITHIN, IS_DUE_SOON, IS_OVERDUE, OPEN
from compliance.models import ComplianceRequest
from compliance.requests import disclosure
from compliance.requests.decisions import HAS_SUBJECT
from compliance.requests.queries import matching
from compliance.requests.reasons import REASONS, Decision
from console.common.lists import FilterForm, ListPage, MergedQuery, choice_filter, day_filter, tabs
from console.common.pages import action, back_to, page, render, report
from console.common.scope import DECIDE, actor_of, may, scope_of, seen_of_selected
from console.requests.decisions import OPTIONS, BulkForm, available_in_bulk, decide_all
from console.requests.presenters import ShownSubject

Status = ComplianceRequest.Status

_LABELS = {"all": "All", "needs-attention": "Needs attention", "in-progress": "In progress"}
# View -> its states, and the condition in each. Each state is a range of an index.
_NEEDS_ATTENTION = {Status.ON_HOLD: Q(), Status.FAILED: HAS_SUBJECT}
_VIEWS: Mapping[str, Mapping[Status, Q]] = {
    "all": {},
    "needs-attention": {status: _NEEDS_ATTENTION.get(status, IS_OVERDUE) for status in OPEN},
    "in-progress": {Status.ACCEPTED: Q(), Status.PROCESSING: Q()},
}
_DUE = {"overdue": IS_OVERDUE, "soon": IS_DUE_SOON, "ahead": Q(due_at__gt=Now(), answered_at=None)}
# Of open requests by their deadline. No one can do anything about a failed one that cannot be retried.
_BY_DEADLINE = {status: HAS_SUBJECT if status == Status.FAILED else Q() for status in OPEN}


class RequestFilterForm(FilterForm):
    """The filters in the URL. None identifies a chatter. Dates are days in `zone`."""

    kind = choice_filter(ComplianceRequest.Kind.choices)
    status = choice_filter(Status.choices)
    hold_reason = choice_filter(ComplianceRequest.HoldReason.choices)
    due = choice_filter(
        [("overdue", "Overdue"), ("soon", f"Within {DUE_SOON_WITHIN.days} days"), ("ahead", "Not overdue")]
    )
    due_from = day_filter(label="Due from")
    due_to = day_filter(label="Due until")
    origin = choice_filter(ComplianceRequest.Origin.choices, label="Filed via")
    received_from = day_filter()
    received_to = day_filter(label="to")
    reference = forms.RegexField(
        REFERENCE,
        required=False,
        error_messages={"invalid": f"A reference is {RULES[REFERENCE]}"},
    )

    def __init__(self, *args: Any, chatbots: list[Chatbot], zone: str, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._chatbots, self._zone = chatbots, ZoneInfo(zone)
        self.fields = {"chatbot": choice_filter([(one.slug, one.name) for one in chatbots]), **self.fields}
        self.fields["received_from"].label = f"Filed from ({zone})"

    def branches(self, view: str) -> list[Q]:
        """Return the conditions of a valid form in a view: one for each state, or one for all of them."""
        given = self.cleaned_data
        by_deadline = any(given[name] for name in ("due", "due_from", "due_to"))
        states = dict(_VIEWS[view]) or (dict(_BY_DEADLINE) if by_deadline else {})
        chosen = {Status(one) for one in (given["status"], given["hold_reason"] and Status.ON_HOLD) if one}
        if len(chosen) > 1 or (states and not chosen <= states.keys()):
            return []
        for status in chosen:
            states = {status: states.get(status, Q())}
        common = _DUE.get(given["due"], Q()) & self._due_between(given["due_from"], given["due_to"])
        common &= Q(hold_reason=given["hold_reason"]) if given["hold_reason"] else Q()
        common &= Q(origin=given["origin"]) if given["origin"] else Q()
        common &= matching(
            kind=given["kind"] or None,
            reference=given["reference"] or None,
            received_after=self._midnight(given["received_from"]),
            received_before=self._midnight(given["received_to"], days=1),
        )
        return [Q(status=status) & condition & common for status, condition in states.items()] or [common]

    def _due_between(self, first: date | None, last: date | None) -> Q:
        """Return the condition for deadlines of open requests on these days, each in the zone of its chatbot."""
        condition = Q(answered_at=None) if first or last else Q()
        if first:
            condition &= Q(due_at__gte=self._begins(first))
        if last:
            condition &= Q(due_at__lt=self._begins(last, days=1))
        return condition

    def _begins(self, day: date, *, days: int = 0) -> Case:
        """Return the beginning of a day in the zone of each chatbot. It does not change the choice of an index."""
        by_zone: dict[str, list[int]] = defaultdict(list)
        for one in self._chatbots:
            by_zone[one.timezone].append(one.pk)
        begins = {zone: self._midnight(day, days=days, zone=ZoneInfo(zone)) for zone in by_zone}
        whens = [When(chatbot__in=ids, then=Value(begins[zone])) for zone, ids in by_zone.items()]
        return Case(*whens, output_field=DateTimeField())

    def _midnight(self, day: date | None, *, days: int = 0, zone: ZoneInfo | None = None) -> datetime | None:
        if day is None:
            return None
        # There are no requests outside of these days, and the last day of the calendar has no next one.
        within = min(max(day, EARLIEST.date()), LATEST.date())
        return midnight(within + timedelta(days=days), zone or self._zone)


@page
def requests(request: HttpRequest) -> HttpResponse:
    scope = scope_of(request)
    view, views = tabs(request, _LABELS, scope.slug)
    form = RequestFilterForm(request.GET, chatbots=scope.visible, zone=scope.zone)
    found: ListPage[ComplianceRequest] = ListPage([])
    if form.is_valid():
        rows = ComplianceRequest.objects.select_related("chatbot").defer(*ComplianceRequest.UNREAD)
        found = MergedQuery(rows, scope.ids, form.branches(view)).page(request)
    available = available_in_bulk(request)
    return render(
        request,
        "console/requests/list.html",
        title="Requests",
        scope=scope,
        form=form,
        page=found,
        views=views,
        view=view,
        bulk=BulkForm(decisions=available) if available else None,
        here=request.get_full_path(),
        ledger_days=settings.ERASURE_LEDGER_DAYS.days,
    )


MOST_SELECTED = 100


@action
def decide(request: HttpRequest) -> HttpResponse:
    """Show the selected requests; with `confirmed`, decide on each and report the results."""
    back = back_to(request, "console:requests")
    available = available_in_bulk(request)
    if not available:
        raise PermissionDenied
    form = BulkForm(request.POST, decisions=available)
    rows = ComplianceRequest.objects.select_related("chatbot").defer(*ComplianceRequest.UNREAD)
    # Those that the user sees, in the order of filing.
    selected = list(seen_of_selected(request, rows.order_by("seq"), most=MOST_SELECTED)[1])
    if not form.is_valid() or not selected:
        errors = [str(error) for errors in form.errors.values() for error in errors]
        for error in errors or ["Select requests first."]:
            messages.error(request, error)
        return redirect(back)
    decision, reason = form.chosen
    option = OPTIONS[decision]
    if decision is Decision.APPROVE:
        # No approval overrides a hold, so the persons are not shown either.
        kept = [one for one in selected if one.hold_reason == ComplianceRequest.HoldReason.LEGAL_HOLD]
        if kept:
            messages.error(request, f"{counted(len(kept), 'request')} under a legal hold: left out.")
            selected = [one for one in selected if one not in kept]
        if not selected:
            return redirect(back)
    if "confirmed" not in request.POST:
        subjects = _subjects(request, selected) if decision is Decision.APPROVE else {}
        return render(
            request,
            "console/requests/decide.html",
            title=f"{decision.value.title()} {counted(len(selected), 'request')}",
            option=option,
            reason=REASONS[decision](reason).label,
            choice=form.cleaned_data["choice"],
            rows=[(one, subjects.get(one.pk)) for one in selected],
            shows_subject=decision is Decision.APPROVE,
            back=back,
        )
    results = decide_all(request, decision, selected, reason=reason, held_for=_held_for(request))
    report(request, "request", results, option.done)
    return redirect(back)


def _subjects(request: HttpRequest, selected: list[ComplianceRequest]) -> dict[UUID, ShownSubject]:
    theirs = [one.pk for one in selected if disclosure.is_disclosable(one) and may(request, one.chatbot, DECIDE)]
    shown = disclosure.disclose_all(request_ids=theirs, actor=actor_of(request))
    return {request_id: ShownSubject(subject) for request_id, subject in shown.items()}


def _held_for(request: HttpRequest) -> dict[str, str]:
    """Return the hold, or the status, that the page showed for each request."""
    pairs = (text.partition(":") for text in request.POST.getlist("held_for"))
    return {request_id: reason for request_id, _, reason in pairs}
