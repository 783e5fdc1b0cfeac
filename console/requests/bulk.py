"""Decide on several requests selected in the list."""

from uuid import UUID

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect

from compliance.models import ComplianceRequest
from compliance.requests.decisions import REASONS
from console.common.pages import action, back_to, render
from console.common.scope import within_scope
from console.requests import decisions
from console.requests.forms import BulkForm
from console.requests.list_page import UNREAD, request_rows

MOST_SELECTED = 100


@action
def decide(request: HttpRequest) -> HttpResponse:
    """Show the selected requests; with `confirmed`, decide on each and report the results."""
    back = back_to(request, "console:requests")
    offered = decisions.offered_in_bulk(request)
    if not offered:
        raise PermissionDenied
    form = BulkForm(request.POST, decisions=offered)
    selected = list(_selected(request))
    if not form.is_valid() or not selected:
        errors = [str(error) for errors in form.errors.values() for error in errors]
        for error in errors or ["Select requests first."]:
            messages.error(request, error)
        return redirect(back)
    decision, reason = form.chosen
    option = decisions.OPTIONS[decision]
    if "confirmed" not in request.POST:
        return render(
            request,
            "console/requests/decide.html",
            title=f"{decision.value.title()} {_requests(len(selected))}",
            option=option,
            reason=REASONS[decision](reason).label,
            choice=form.cleaned_data["choice"],
            rows=request_rows(selected, [one.chatbot for one in selected]),
            back=back,
        )
    decided, refused = decisions.decide_all(request, decision, selected, reason=reason, held_for=_held_for(request))
    if decided:
        messages.success(request, f"{_requests(decided)}: {option.done}")
    for error, number in refused.items():
        messages.error(request, f"{_requests(number)}: {error}")
    return redirect(back)


def _held_for(request: HttpRequest) -> dict[str, str]:
    """Return the hold that the page showed for each request."""
    pairs = (text.partition(":") for text in request.POST.getlist("held_for"))
    return {request_id: reason for request_id, _, reason in pairs}


def _requests(number: int) -> str:
    return f"{number} request{'s' * (number != 1)}"


def _selected(request: HttpRequest) -> QuerySet[ComplianceRequest]:
    """Return the selected requests that the user may see, in the order of filing."""
    try:
        ids = [UUID(text) for text in request.POST.getlist("selected")[:MOST_SELECTED]]
    except ValueError:
        raise Http404 from None
    found = ComplianceRequest.objects.filter(pk__in=ids).select_related("chatbot").defer(*UNREAD).order_by("seq")
    return within_scope(found, request, chatbot="chatbot_id")
