"""The list of requests, and deciding on several of them at once."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.utils import timezone
from django.utils.http import urlencode
from django.utils.timesince import timesince

from chatbots.models import Chatbot
from compliance.models import ComplianceRequest
from compliance.requests.reasons import REASONS
from console.common.pages import action, page, render
from console.common.paging import Page, page_of
from console.common.scope import visible_chatbots, within_scope
from console.requests import decisions, labels
from console.requests.filters import VIEWS, newest
from console.requests.forms import BulkForm, FilterForm

# Of the requests that one call decides on.
MOST_SELECTED = 100

_VIEWS = {"all": "All", "needs-you": "Needs you", "under-way": "Under way"}
_UNREAD = ("uci_value", "uci_digest", "conversation_digests")


@dataclass(frozen=True)
class Row:
    request: ComplianceRequest
    chatbot: Chatbot
    state: labels.State
    held: str
    due: str
    age: str


@page
def requests(request: HttpRequest) -> HttpResponse:
    chatbots = visible_chatbots(request)
    view = request.GET.get("view", "all")
    slug = request.GET.get("chatbot", "")
    chosen = [one for one in chatbots if slug in ("", one.slug)]
    if view not in VIEWS or (slug and not chosen):
        raise Http404
    # As the dashboard, whose numbers lead here, has its days.
    zone = chosen[0].timezone if len(chosen) == 1 else "UTC"
    form = FilterForm(request.GET, chatbots=chatbots, zone=zone)
    found: Page[ComplianceRequest] = Page([], None, None)
    if form.is_valid():
        merged: Any = newest([one.pk for one in chosen], form.filters(view))
        found = page_of(request, merged, ordering=("-id",))
    offered = decisions.offered_in_bulk(request)
    return render(
        request,
        "console/requests/list.html",
        title="Requests",
        form=form,
        page=found,
        rows=_rows(found.rows, chatbots),
        views=[_tab(name, label, view, slug) for name, label in _VIEWS.items()],
        view=view,
        has_many=len(chatbots) > 1,
        shows_chatbot=len(chosen) > 1,
        zone=zone,
        bulk=BulkForm(decisions=offered) if offered else None,
        here=request.get_full_path(),
    )


def _rows(found: list[ComplianceRequest], chatbots: list[Chatbot]) -> list[Row]:
    by_id = {one.pk: one for one in chatbots}
    now = timezone.now()
    return [
        Row(
            request=one,
            chatbot=by_id[one.chatbot_id],
            state=labels.state_of(one),
            held=labels.held_in_short(one),
            due=labels.due_mark(one),
            age=_age(one.received_at, now),
        )
        for one in found
    ]


def _age(received_at: datetime, now: datetime) -> str:
    return f"{timesince(received_at, now, depth=1)} ago" if now - received_at >= timedelta(minutes=1) else "just now"


def _tab(name: str, label: str, view: str, slug: str) -> dict[str, Any]:
    parameters = {"view": name} | ({"chatbot": slug} if slug else {})
    return {"label": label, "url": f"?{urlencode(parameters)}", "is_here": name == view}


@action
def decide(request: HttpRequest) -> HttpResponse:
    """Show what is about to be decided; with `confirmed`, decide it and say how it went."""
    back = _back(request)
    offered = decisions.offered_in_bulk(request)
    if not offered:
        raise PermissionDenied
    form = BulkForm(request.POST, decisions=offered)
    selected = list(_selected(request))
    if not form.is_valid() or not selected:
        said = [str(error) for errors in form.errors.values() for error in errors]
        for text in said or ["Select requests first."]:
            messages.error(request, text)
        return redirect(back)
    decision, reason = form.chosen
    way = decisions.WAYS[decision]
    if "confirmed" not in request.POST:
        return render(
            request,
            "console/requests/decide.html",
            title=f"{decision.value.title()} {len(selected)} request{'s' * (len(selected) != 1)}",
            way=way,
            reason=REASONS[decision](reason).label,
            choice=form.cleaned_data["choice"],
            rows=_rows(selected, [one.chatbot for one in selected]),
            back=back,
        )
    went, refused = decisions.decide_all(request, decision, selected, reason=reason, held_for=_shown(request))
    if went:
        messages.success(request, f"{_number(went)}: {way.done}")
    for why, number in refused.items():
        messages.error(request, f"{_number(number)}: {why}")
    return redirect(back)


def _shown(request: HttpRequest) -> dict[str, str]:
    """Return which hold the page has shown of each request."""
    pairs = (text.partition(":") for text in request.POST.getlist("held_for"))
    return {request_id: reason for request_id, _, reason in pairs}


def _number(number: int) -> str:
    return f"{number} request{'s' * (number != 1)}"


def _selected(request: HttpRequest) -> QuerySet[ComplianceRequest]:
    """Return those of the selected requests that the user may see, in the order of filing."""
    ids = []
    for text in request.POST.getlist("selected")[:MOST_SELECTED]:
        try:
            ids.append(UUID(text))
        except ValueError:
            raise Http404 from None
    found = ComplianceRequest.objects.filter(pk__in=ids).select_related("chatbot").defer(*_UNREAD).order_by("seq")
    return within_scope(found, request, chatbot="chatbot_id")


def _back(request: HttpRequest) -> str:
    """Return the list as it was, if that is where the call says it comes from."""
    here, asked = reverse("console:requests"), request.POST.get("back", "")
    return asked if asked.startswith(f"{here}?") else here
