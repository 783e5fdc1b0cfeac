"""Place a legal hold: the chatbot, the form, the preview, the confirmation.

Nothing is stored between the steps: the browser gets the form encrypted, and sends it with the next step.
"""

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect

from chatbots.models import Chatbot
from common.texts import counted
from compliance import hold_coverage, holds
from compliance.errors import Refused
from compliance.hold_coverage import Coverage
from compliance.models import LegalHold
from console.common import pages
from console.common.pages import chatbot_or_404, form, page, refusal, render
from console.common.scope import DECIDE, actor_of
from console.common.sealed import InvalidToken, Seal
from console.filing.pasted_values import peculiarities
from console.holds.forms import PlaceForm

MOST_LISTED = 100


@page
def choose_chatbot(request: HttpRequest) -> HttpResponse:
    template, title = "console/holds/choose.html", "Place a legal hold"
    return pages.choose_chatbot(request, template, title=title, roles=DECIDE, then="console:place_hold")


@form
def place(request: HttpRequest, slug: str) -> HttpResponse:
    """Ask for the hold; with `step`, show its preview (`preview`), ask again (`edit`) or place it (`place`)."""
    chatbot = chatbot_or_404(request, slug, roles=DECIDE)
    step = request.POST.get("step")
    if request.method != "POST":
        return _ask(request, chatbot, PlaceForm(chatbot=chatbot))
    given = request.POST.dict()
    if step in {"edit", "place"}:
        try:
            given = _seal(request, chatbot).open(request.POST.get("token", "")).value
        except InvalidToken:
            text = "Nothing was placed: this preview belongs to another user or chatbot. Create a new one."
            return refusal(request, status=400, title="Not placed", text=text)
    if step == "edit":
        return _ask(request, chatbot, PlaceForm(chatbot=chatbot, initial=given))
    filled_in = PlaceForm(given, chatbot=chatbot)
    if filled_in.is_valid():
        try:
            return _place(request, filled_in) if step == "place" else _preview(request, filled_in)
        except Refused as refused:
            filled_in.refuse(refused)
    return _ask(request, chatbot, filled_in)


def _ask(request: HttpRequest, chatbot: Chatbot, filled_in: PlaceForm) -> HttpResponse:
    title = "Place a legal hold"
    return render(request, "console/holds/place.html", title=title, chatbot=chatbot, form=filled_in)


def _preview(request: HttpRequest, filled_in: PlaceForm) -> HttpResponse:
    """Show what the hold would cover now. Raises Refused."""
    chatbot, given = filled_in.chatbot, filled_in.given_input
    covered = holds.preview(chatbot=chatbot, given_input=given)
    waiting = holds.would_wait(chatbot=chatbot, given_input=given)
    return render(
        request,
        "console/holds/preview.html",
        title="Preview of a legal hold",
        chatbot=chatbot,
        form=filled_in,
        given=given,
        basis=LegalHold.Basis(given.basis).label,
        notes=peculiarities(filled_in.cleaned_data["value"]),
        covered=covered,
        waiting=waiting[:MOST_LISTED],
        waiting_number=len(waiting),
        examined=hold_coverage.MOST_EXAMINED,
        token=_seal(request, chatbot).seal(filled_in.as_given),
    )


def _place(request: HttpRequest, filled_in: PlaceForm) -> HttpResponse:
    """Place the hold, and show its page. Raises Refused."""
    hold, covered, was_there = holds.place(
        chatbot=filled_in.chatbot, given_input=filled_in.given_input, actor=actor_of(request)
    )
    if was_there:
        messages.warning(request, f"Nothing new was placed: this equal hold is in force. {_counts(covered)}")
    else:
        messages.success(request, f"Placed. {_counts(covered)}")
    return redirect("console:hold", hold.pk)


def _counts(covered: Coverage) -> str:
    gone = (
        f" {counted(covered.already_marked, 'conversation')} being erased already, {covered.already_erased:,} erased."
    )
    return f"It covers {counted(covered.held, 'conversation')} now." + (gone if any(covered[1:]) else "")


def _seal(request: HttpRequest, chatbot: Chatbot) -> Seal:
    return Seal("hold", chatbot, actor_of(request))
