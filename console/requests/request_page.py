"""The page of a request: its state, its history, and the possible decisions."""

from collections.abc import Callable, Sequence
from http import HTTPStatus
from typing import Any
from uuid import UUID

from django.contrib import messages
from django.db.models import BooleanField, ExpressionWrapper
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone

from common.texts import counted
from compliance import hold_coverage, letters
from compliance.callbacks import resend
from compliance.deadlines import describe
from compliance.errors import Refused
from compliance.letters import Letter, TemplateFault
from compliance.models import ComplianceRequest
from compliance.requests import disclosure, downloads, results
from compliance.requests.decisions import (
    HAS_SUBJECT,
    awaits_approval,
    erase_unheld,
    needs_second_person,
    record_answer,
)
from compliance.requests.early_start import end_of_own_grace, find_start_refusal, start_now
from compliance.requests.preview import preview_filed
from compliance.requests.reasons import Decision
from compliance.requests.results import conversations_done
from compliance.work import legal_holds
from console.changelog import names_of
from console.common import pages
from console.common.pages import action, form, page, polled
from console.common.scope import DECIDE, MANAGE_REQUESTS, actor_of, may, row_or_404
from console.requests import decisions, labels
from console.requests.decisions import DecisionForm
from console.requests.history import timeline
from console.requests.letters import LETTER_FORMS, answered_by, letter_file, shown_letters
from console.requests.presenters import (
    ShownSubject,
    ahead_of,
    conversations_of,
    counts,
    failure_of,
    pending_exports,
)

Status = ComplianceRequest.Status

# The status of a refused download.
_REFUSALS = {"export_expired": HTTPStatus.GONE, "unavailable": HTTPStatus.SERVICE_UNAVAILABLE}


@page
def request_page(request: HttpRequest, request_id: UUID) -> HttpResponse:
    return _answer(request, _find(request, request_id))


@polled
@page
def progress(request: HttpRequest, request_id: UUID) -> HttpResponse:
    """Return the part of the page that changes while a worker processes the request."""
    found = _find(request, request_id)
    return render(request, "console/requests/_progress.html", _progress(found))


@page
def download(request: HttpRequest, request_id: UUID, file: str | None = None) -> HttpResponse:
    """Redirect to the file of an export, or to one beside it. The change log records it."""
    found = _find(request, request_id)
    pages.require(request, found.chatbot, MANAGE_REQUESTS)
    try:
        token = downloads.issue(found, actor=actor_of(request), name=file)
    except Refused as refused:
        # An unfinished export has no files beside it either.
        if refused.code in ({"not_found", "not_ready"} if file is not None else {"not_found"}):
            raise Http404 from None
        status = int(_REFUSALS.get(refused.code, HTTPStatus.CONFLICT))
        return pages.refusal(request, status=status, title="File not available", text=refused.detail)
    return redirect("download", token)


@page
def letter(request: HttpRequest, request_id: UUID, kind: str, form: str) -> HttpResponse:
    """Return a letter to the person as a file, `txt` or `html`."""
    found = _find(request, request_id)
    if kind not in letters.offered(found) or form not in LETTER_FORMS:
        raise Http404
    try:
        return letter_file(found, Letter(kind), form, outcomes=results.read([found]))
    except TemplateFault as fault:
        status = HTTPStatus.SERVICE_UNAVAILABLE
        return pages.refusal(request, status=status, title="Letter not available", text=str(fault))


@action
def act(request: HttpRequest, request_id: UUID, action: str) -> HttpResponse:
    """Make a decision on the request, start it early, record its answer, or send its callbacks again."""
    found = _find(request, request_id)
    if change := {"answer": _record_answer, "resend": _resend, "start": _start}.get(action):
        roles = decisions.roles_to_start(found) if action == "start" else MANAGE_REQUESTS
        pages.require(request, found.chatbot, roles)
        return _change(request, found, change)
    try:
        decision = Decision(action)
    except ValueError:
        raise Http404 from None
    pages.require(request, found.chatbot, decisions.roles_for(decision, found))
    form = DecisionForm(request.POST, decision=decision)
    if not form.is_valid():
        return _answer(request, found, form=form, status=HTTPStatus.BAD_REQUEST)

    def decide(request: HttpRequest, found: ComplianceRequest) -> str:
        decisions.decide(request, decision, found.pk, **form.cleaned_data)
        return f"The request is {form.option.done}."

    return _change(request, found, decide)


def _change(
    request: HttpRequest, found: ComplianceRequest, change: Callable[[HttpRequest, ComplianceRequest], str]
) -> HttpResponse:
    """Change the request, and return to its page with the message of the change, or with why it was refused."""
    try:
        done = change(request, found)
    except Refused as refused:
        return _answer(request, _find(request, found.pk), refused=refused.detail, status=HTTPStatus.CONFLICT)
    messages.success(request, done)
    return redirect("console:request", found.pk)


def _start(request: HttpRequest, found: ComplianceRequest) -> str:
    started = start_now(request_id=found.pk, actor=actor_of(request))
    own = "The console's waiting time has ended. It still waits for the chatbot's own grace period."
    return own if started.not_before else "The waiting time has ended."


def _record_answer(request: HttpRequest, found: ComplianceRequest) -> str:
    letter, answered = request.POST.get("letter", ""), found
    if letter == Letter.PARTLY_DONE:
        letter, answered = Letter.HELD, answered_by(Letter.PARTLY_DONE, found, results.read([found])) or found
    record_answer(request_id=answered.pk, actor=actor_of(request), letter=letter)
    return "The request is recorded as answered."


def _resend(request: HttpRequest, found: ComplianceRequest) -> str:
    sent = resend.resend_of_request(request_id=found.pk, actor=actor_of(request))
    return f"{counted(sent.resent, 'callback')} will be sent again."


@action
def show_subject(request: HttpRequest, request_id: UUID) -> HttpResponse:
    """Show the subject of a deletion that waits for a decision, in this response only."""
    found = _find(request, request_id)
    pages.require(request, found.chatbot, DECIDE)
    try:
        shown = ShownSubject(*disclosure.disclose(request_id=found.pk, actor=actor_of(request)))
    except Refused as refused:
        return _answer(request, found, refused=refused.detail, status=HTTPStatus.CONFLICT)
    return _answer(request, found, shown=shown)


@form
def limit(request: HttpRequest, request_id: UUID) -> HttpResponse:
    """Show what a deletion under a legal hold would erase and keep; with a reason, let it erase what is not held."""
    # The preview reads the digests.
    found = _find(request, request_id, unread=("uci_value",))
    pages.require(request, found.chatbot, DECIDE)
    is_under_hold = found.hold_reason == ComplianceRequest.HoldReason.LEGAL_HOLD
    if not is_under_hold or found.kind != ComplianceRequest.Kind.DELETION:
        return redirect("console:request", found.pk)
    filled_in = DecisionForm(request.POST if request.method == "POST" else None, decision=Decision.LIMIT)
    if filled_in.is_valid():
        reason, note = filled_in.cleaned_data["reason"], filled_in.cleaned_data["note"]
        try:
            erase_unheld(request_id=found.pk, actor=actor_of(request), reason=reason, note=note)
        except Refused as refused:
            status, title = HTTPStatus.CONFLICT, "Nothing was changed"
            return pages.refusal(request, status=status, title=title, text=refused.detail)
        messages.success(request, "The deletion erases what is not held. The rest is filed as a request of its own.")
        return redirect("console:request", found.pk)
    preview = preview_filed(found, leaves_out_held=True)
    return pages.render(
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


def _find(
    request: HttpRequest, request_id: UUID, *, unread: Sequence[str] = ComplianceRequest.UNREAD
) -> ComplianceRequest:
    """Return the request without its personal fields. Raises Http404 outside the user's chatbots."""
    is_retryable = ExpressionWrapper(HAS_SUBJECT, output_field=BooleanField())
    requests = ComplianceRequest.objects.filter(pk=request_id).select_related("chatbot").defer(*unread)
    return row_or_404(request, requests.annotate(is_retryable=is_retryable))


def _is_retryable(found: ComplianceRequest) -> bool:
    return bool(vars(found)["is_retryable"])


def _answer(
    request: HttpRequest,
    found: ComplianceRequest,
    *,
    form: DecisionForm | None = None,
    refused: str = "",
    status: int = HTTPStatus.OK,
    shown: ShownSubject | None = None,
) -> HttpResponse:
    outcomes, now = results.read([found]), timezone.now()
    export = outcomes.exports.get(found.pk)
    manages, decides = (may(request, found.chatbot, roles) for roles in (MANAGE_REQUESTS, DECIDE))
    held_for = {"held_for": found.hold_reason or found.status}
    choices = [
        form if form and form.decision == one else DecisionForm(decision=one, initial=held_for)
        for one in decisions.available(request, found, is_retryable=_is_retryable(found))
    ]
    is_under_hold = found.hold_reason == ComplianceRequest.HoldReason.LEGAL_HOLD
    waits_for_approval = (found.status == Status.ON_HOLD and not is_under_hold) or awaits_approval(found)
    may_approve = any(one.decision is Decision.APPROVE for one in choices)
    preview = shown.preview if shown else _preview(found) if may_approve else None
    return pages.render(
        request,
        "console/requests/request.html",
        title=f"{found.get_kind_display()}, {found.get_status_display().lower()}",
        status=status,
        chatbot=found.chatbot,
        **_progress(found),
        choices=choices,
        may_start=not find_start_refusal(found, now) and may(request, found.chatbot, decisions.roles_to_start(found)),
        has_own_grace=end_of_own_grace(found, now) is not None,
        refused=refused,
        filed_by_user=waits_for_approval and decides and needs_second_person(found, actor_of(request)),
        preview=preview,
        remaining_holds=labels.remaining_holds(found, preview.only.held_by) if preview else [],
        shows_subject=decides and disclosure.is_disclosable(found),
        shown=shown,
        pending=pending_exports(found) if found.hold_reason == ComplianceRequest.HoldReason.EXPORT_PENDING else [],
        holds=hold_coverage.holds_on(found) if is_under_hold and decides else [],
        may_limit=is_under_hold and decides and _may_limit(found),
        continued_by=outcomes.continued_by.get(found.pk),
        ahead=ahead_of(found),
        failure=failure_of(found),
        not_retryable=found.status == Status.FAILED and not _is_retryable(found),
        has_counts=found.cutoff_at is not None,
        counts=counts(found, outcomes),
        assurance=results.assurance_of(found),
        unverified=results.unverified_left_out(found),
        export=export if export and export.finished_at else None,
        copies=outcomes.copies.get(export.pk, ()) if export else (),
        most_copies=results.MOST_FILES,
        kept=outcomes.kept.get(found.pk, ()),
        run=outcomes.runs.get(found.pk),
        redaction=outcomes.redactions.get(found.pk),
        removed=outcomes.removed.get(found.pk),
        repeated_by=outcomes.repeated_by.get(found.pk),
        repeats=outcomes.repeats.get(found.pk),
        delivered=outcomes.delivered.get(found.pk, ()),
        conversations=conversations_of(found),
        callbacks=resend.callbacks_of(found.pk),
        events=timeline(found.pk),
        letters=shown_letters(found, outcomes),
        people=names_of({found.filed_by, found.approved_by, found.extended_by} - {""}),
        due=labels.due_mark(found),
        rule=describe(found.deadline, is_extended=found.extended_at is not None),
        manages=manages,
        decides=decides,
    )


def _may_limit(found: ComplianceRequest) -> bool:
    """Return whether the deletion has something to erase that no hold covers."""
    is_deletion = found.kind == ComplianceRequest.Kind.DELETION
    return is_deletion and not legal_holds.covers_all_of(found.pk, found.chatbot_id)


def _progress(found: ComplianceRequest) -> dict[str, Any]:
    return {
        "found": found,
        "state": labels.state_of(found),
        "next": labels.next_step(found),
        "done": conversations_done(found),
        "days": found.extracts + found.extracts_left,
        "is_live": found.status not in labels.AT_REST,
    }


def _preview(found: ComplianceRequest) -> Any:
    """Return a preview of the deletion's effects now. This reads its digests, but not its value."""
    if found.kind != ComplianceRequest.Kind.DELETION:
        return None
    return preview_filed(ComplianceRequest.objects.select_related("chatbot").defer("uci_value").get(pk=found.pk))
