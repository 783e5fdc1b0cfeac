"""Let a deletion under a legal hold erase what is not held: its counts first, then a reason and the confirmation."""

from http import HTTPStatus
from uuid import UUID

from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect

from compliance.errors import Refused
from compliance.models import ComplianceRequest
from compliance.requests.decisions import erase_unheld
from compliance.requests.preview import preview_filed
from compliance.requests.reasons import Decision
from console.common.pages import form, refusal, render, require
from console.common.scope import DECIDE, actor_of, within_scope
from console.requests.decisions import DecisionForm


@form
def limit(request: HttpRequest, request_id: UUID) -> HttpResponse:
    """Show what would be erased and what would stay; with a reason, let the deletion go on. Officers only."""
    requests = ComplianceRequest.objects.filter(pk=request_id).select_related("chatbot").defer("uci_value")
    found = within_scope(requests, request, chatbot="chatbot_id").first()
    if found is None:
        raise Http404
    require(request, found.chatbot, DECIDE)
    is_under_hold = found.hold_reason == ComplianceRequest.HoldReason.LEGAL_HOLD
    if not is_under_hold or found.kind != ComplianceRequest.Kind.DELETION:
        return redirect("console:request", found.pk)
    filled_in = DecisionForm(request.POST if request.method == "POST" else None, decision=Decision.LIMIT)
    if filled_in.is_valid():
        return _limit(request, found, reason=filled_in.cleaned_data["reason"], note=filled_in.cleaned_data["note"])
    preview = preview_filed(found, leaves_out_held=True)
    return render(
        request,
        "console/requests/limit.html",
        title="Erase what is not held",
        status=HTTPStatus.BAD_REQUEST if filled_in.is_bound else HTTPStatus.OK,
        found=found,
        chatbot=found.chatbot,
        form=filled_in,
        erased=preview.deletion and preview.deletion.erased,
        stays=len(preview.only.under_hold),
        at_least=preview.only.at_least,
    )


def _limit(request: HttpRequest, found: ComplianceRequest, *, reason: str, note: str) -> HttpResponse:
    try:
        erase_unheld(request_id=found.pk, actor=actor_of(request), reason=reason, note=note)
    except Refused as refused:
        return refusal(request, status=HTTPStatus.CONFLICT, title="Nothing was changed", text=refused.detail)
    messages.success(request, "The deletion erases what is not held. The rest is filed as a request of its own.")
    return redirect("console:request", found.pk)
