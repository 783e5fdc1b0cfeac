"""Redact selected messages or the CSAT comment. The texts are shown first, and a confirmation files the redaction."""

import re
from http import HTTPStatus
from zoneinfo import ZoneInfo

from django.contrib import messages as notices
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect

from common.texts import counted
from compliance.errors import Refused
from compliance.models import ComplianceRequest, Redaction
from compliance.models.redaction import MOST_MESSAGES
from compliance.redaction import filing
from compliance.requests.submit import CONSOLE_GRACE
from compliance.work import legal_holds
from console.common.forms import RequestedAtForm, required_choice
from console.common.pages import action, refusal, render
from console.common.scope import MANAGE_REQUESTS, actor_of
from console.conversations.transcript_page import by_day, closed_conversation, open_conversation, viewed
from console.requests.labels import APPROVED_FIRST
from conversations import messages
from conversations.models import Conversation

_MINUTES = counted(int(CONSOLE_GRACE.total_seconds() // 60), "minute")


class RedactionForm(RequestedAtForm):
    reason = required_choice(Redaction.Reason.choices, "Choose a reason.")


@action
def redact(request: HttpRequest, number: int) -> HttpResponse:
    """Show what is selected; with `confirmed`, file their redaction and show its request."""
    conversation, chatbot = open_conversation(request, number, roles=MANAGE_REQUESTS)
    # In the order of their numbers, whatever the order in the form.
    chosen = {int(one) for one in request.POST.getlist("messages") if re.fullmatch(r"[0-9]{1,18}", one)}
    csat_comment = "csat_comment" in request.POST
    if len(chosen) > MOST_MESSAGES or not (chosen or csat_comment):
        return _select_others(request, conversation, f"Select 1 to {MOST_MESSAGES} messages, or the CSAT comment.")
    is_confirmed = "confirmed" in request.POST
    form = RedactionForm(request.POST if is_confirmed else None, chatbot=chatbot, initial=request.POST.dict())
    try:
        filing.refuse_waiting(
            chatbot=chatbot, number=conversation.pk, message_numbers=chosen, csat_comment=csat_comment
        )
        if not form.is_valid():
            return _confirmation_page(request, conversation, sorted(chosen), form, csat_comment=csat_comment)
        filed = filing.redact(
            chatbot=chatbot,
            number=conversation.pk,
            message_numbers=sorted(chosen),
            csat_comment=csat_comment,
            origin=ComplianceRequest.Origin.CONSOLE,
            actor=actor_of(request),
            **form.cleaned_data,
        )
    except Refused as refused:
        return _refusal_page(request, conversation, refused)
    text = f"The redaction is filed. It starts in {_MINUTES}; until then it can be cancelled, or started at once."
    notices.success(request, text + (APPROVED_FIRST if chatbot.four_eyes else ""))
    return redirect("console:request", filed.pk)


def _confirmation_page(
    request: HttpRequest, conversation: Conversation, numbers: list[int], form: RedactionForm, *, csat_comment: bool
) -> HttpResponse:
    """Show what would be redacted. The change log records it as a view of the conversation."""
    chatbot = conversation.chatbot
    with viewed(request, conversation) as open_one:
        found = messages.read(numbers, conversation=open_one)
    if len(found) < len(numbers) or (csat_comment and not open_one.csat_comment):
        raise Http404
    in_order = sorted(found, key=lambda one: (one.message.sent_at, one.message.pk))
    selected = [counted(len(numbers), "message")] * bool(numbers) + ["the CSAT comment"] * csat_comment
    return render(
        request,
        "console/conversations/redact.html",
        title=f"Redact {' and '.join(selected)}",
        status=HTTPStatus.BAD_REQUEST if form.is_bound else HTTPStatus.OK,
        conversation=conversation,
        chatbot=chatbot,
        zone=chatbot.timezone,
        days=by_day(in_order, zone=ZoneInfo(chatbot.timezone)),
        numbers=numbers,
        csat_comment=open_one.csat_comment if csat_comment else None,
        form=form,
        minutes=_MINUTES,
        is_held=bool(legal_holds.find_held([chatbot.pk], [conversation.pk])),
    )


def _select_others(request: HttpRequest, conversation: Conversation, why: str) -> HttpResponse:
    notices.error(request, f"Nothing was filed. {why}")
    return redirect("console:conversation", conversation.pk)


def _refusal_page(request: HttpRequest, conversation: Conversation, refused: Refused) -> HttpResponse:
    if refused.code == "not_found":
        raise Http404
    if refused.code == "conversation_deleted":
        return closed_conversation(request, conversation)
    if refused.code == "invalid":
        return _select_others(request, conversation, refused.detail)
    return refusal(request, status=HTTPStatus.CONFLICT, title="Not filed", text=refused.detail)
