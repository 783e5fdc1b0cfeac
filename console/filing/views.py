"""File requests: choose the chatbot, enter the subjects, check the preview, confirm, see the results."""

from abc import ABC, abstractmethod
from typing import Any, NamedTuple

from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import redirect

from chatbots.models import Chatbot
from common.texts import counted
from compliance.errors import Refused
from compliance.models import ComplianceRequest
from compliance.requests.preview import Preview
from compliance.requests.selectors import ByUci, Selector
from compliance.requests.submit import MAX_BATCH
from console.common import pages
from console.common.pages import chatbot_or_404, csv_file, form, page, refusal, render
from console.common.scope import DECIDE, MANAGE_REQUESTS, actor_of, may
from console.common.sealed import InvalidToken, Seal
from console.conversations.transcript_page import restricted_conversation
from console.filing import presenters
from console.filing.drafts import (
    Draft,
    NotConfirmed,
    Outcomes,
    PreviewToken,
    confirm,
    dump,
    dump_subject,
    load,
    load_subject,
    minutes_left,
    preview_draft,
    requested_part,
)
from console.filing.forms import KINDS, ClosedConversation, FilingForm, ManyForm, NoConversation, OneForm, subjects_of
from console.filing.pasted_values import peculiarities
from console.requests.labels import APPROVED_FIRST
from conversations import csv_cells
from conversations.messages import MAX_IDENTITIES
from conversations.protection import find_restricted

_NOT_CONFIRMED = {
    "mistyped": "Nothing was filed: the text you typed does not match. Check the numbers and type it again.",
    "changed": "Nothing was filed: there is more data now than in your preview. Check the new numbers.",
    "expired": "Nothing was filed: a preview is valid for 15 minutes. This is a new one.",
}
_FILED_BEFORE = (
    "Nothing new was filed: this preview was confirmed before, and this is its result. To file the same again, start "
    "with a new preview."
)


@page
def choose_chatbot(request: HttpRequest) -> HttpResponse:
    template, title = "console/filing/choose.html", "File a request"
    return pages.choose_chatbot(request, template, title=title, roles=MANAGE_REQUESTS, then="console:file_request")


class FilingFlow(ABC):
    """The steps of filing, for one request and for many: form, preview, confirmation, result."""

    form_class: type[FilingForm]
    form_template: str
    preview_template: str
    title: str
    is_many: bool

    def __init__(self, request: HttpRequest, chatbot: Chatbot) -> None:
        self.request = request
        self.chatbot = chatbot
        self.actor = actor_of(request)

    def respond(self) -> HttpResponseBase:
        if self.request.method != "POST":
            return self.ask(self.form())
        if self.request.POST.get("step") == "file":
            return self._file()
        return self._preview()

    def form(self, *data: Any, **options: Any) -> Any:
        return self.form_class(*data, chatbot=self.chatbot, actor=self.actor, **options)

    def ask(self, form: Any, **context: Any) -> HttpResponse:
        return render(
            self.request,
            self.form_template,
            title=self.title,
            chatbot=self.chatbot,
            form=form,
            graces={kind: presenters.grace(self.chatbot, kind) for kind in KINDS.values()},
            **context,
        )

    def _preview(self) -> HttpResponse:
        form = self.form(self.request.POST, self.request.FILES)
        if form.is_valid():
            try:
                return self._show(form.draft, form=form)
            except Refused as refused:
                form.refuse(refused)
        return self.ask(form)

    def _show(self, draft: Draft, *, form: Any = None, nonce: str = "", error: str = "") -> HttpResponse:
        """Return the page of the preview. `nonce` is that of the preview that this one replaces. Raises Refused."""
        found, seen = preview_draft(self.chatbot, draft)
        kind = "deletion" if draft.is_deletion else "export"
        return render(
            self.request,
            self.preview_template,
            title=f"Preview of many {kind}s"
            if self.is_many
            else f"Preview of {'a' if draft.is_deletion else 'an'} {kind}",
            chatbot=self.chatbot,
            draft=draft,
            preview=found,
            part=requested_part(found),
            stores=presenters.stores(found.deletion) if found.deletion else [],
            token=dump(self.chatbot, self.actor, draft, seen, nonce=nonce),
            phrase=seen.phrase,
            grace=presenters.grace(self.chatbot, draft.kind),
            error=error,
            **self.preview_context(draft, found, form),
        )

    def _file(self) -> HttpResponse:
        post = self.request.POST
        try:
            token = load(self.chatbot, self.actor, post.get("token", ""))
        except InvalidToken:
            return self.invalid_token()
        if token.draft.is_many != self.is_many:
            return self.invalid_token()
        try:
            outcomes = confirm(chatbot=self.chatbot, actor=self.actor, token=token, typed=post.get("typed", ""))
        except NotConfirmed as error:
            return self.show_again(token, _NOT_CONFIRMED[error.reason])
        except Refused as refused:
            return self.show_again(token, f"Nothing was filed. {refused.detail}")
        return self.filed(token, outcomes)

    def show_again(self, token: PreviewToken, error: str) -> HttpResponse:
        """Return the page with a new preview of the same draft, or with the reason why there is none."""
        try:
            return self._show(token.draft, nonce=token.nonce, error=error)
        except Refused as refused:
            text = f"Nothing was filed. {refused.detail}"
            return refusal(self.request, status=409, title="Not filed", text=text)

    def invalid_token(self) -> HttpResponse:
        text = "Nothing was filed: this preview belongs to another user or chatbot. Create a new one."
        return refusal(self.request, status=400, title="Not filed", text=text)

    @abstractmethod
    def preview_context(self, draft: Draft, found: Any, form: Any) -> dict[str, Any]:
        """Return the context of the preview's template that is added to the common one."""

    @abstractmethod
    def filed(self, token: PreviewToken, outcomes: Outcomes) -> HttpResponse:
        """Return the page of the result."""


@form
def file_request(request: HttpRequest, slug: str) -> HttpResponseBase:
    return FileOne(request, chatbot_or_404(request, slug, roles=MANAGE_REQUESTS)).respond()


class FileOne(FilingFlow):
    form_class = OneForm
    form_template = "console/filing/one.html"
    preview_template = "console/filing/preview.html"
    title = "File a request"
    is_many = False

    def respond(self) -> HttpResponseBase:
        post = self.request.POST
        if post.get("step") == "edit":
            return self.ask(self.form(initial=post.dict()))
        if self.request.method == "POST" and post.get("step") not in {"file", "preview"}:
            return self._about_conversation()
        return super().respond()

    def ask(self, form: OneForm, **context: Any) -> HttpResponse:
        return super().ask(form, subjects=self._offered(form), most_chatters=MAX_IDENTITIES, **context)

    def _offered(self, form: OneForm) -> list[dict[str, Any]]:
        """Return the subjects that the submitted form let the user choose from, if it did."""
        offered = self.request.POST.getlist("offered") or form.initial.get("offered", [])
        chosen = form["subject"].value()
        found = []
        for text in [*offered, *([chosen] if chosen and chosen not in offered else [])]:
            try:
                subject = load_subject(self.chatbot, self.actor, text)
            except InvalidToken:
                continue
            found.append({"token": text, "about": subject, "is_chosen": text == chosen, "notes": _notes(subject)})
        return found

    def _about_conversation(self) -> HttpResponse:
        """Show the form for the chatters of the conversation whose number was sent. `alone` selects only that."""
        number = self.request.POST.get("conversation", "")
        if not (number.isascii() and number.isdigit() and len(number) <= 18):
            raise Http404
        try:
            subjects = subjects_of(self.chatbot, int(number))
        except NoConversation:
            raise Http404 from None
        except ClosedConversation:
            text = "This conversation is deleted or being deleted, so there is nothing to file for it."
            return refusal(self.request, status=410, title="Deleted conversation", text=text)
        if find_restricted(self.chatbot.pk, [int(number)]) and not may(self.request, self.chatbot, DECIDE):
            return restricted_conversation(self.request)
        tokens = [dump_subject(self.chatbot, self.actor, subject) for subject in subjects]
        action = self.request.POST.get("action")
        # With two people in a conversation none is preselected, so that a quick click cannot choose the wrong one.
        chosen = tokens[0] if len(tokens) <= 2 else None
        if self.request.POST.get("alone"):
            chosen = tokens[-1]
        initial = {"subject": chosen, "offered": tokens, "action": action if action in KINDS else None}
        return self.ask(self.form(initial=initial))

    def preview_context(self, draft: Draft, found: Preview, form: OneForm | None) -> dict[str, Any]:  # noqa: ARG002
        return {
            "conversations": requested_part(found).found.conversations,
            "notes": _notes(draft.subject),
            "holds": presenters.hold_texts(found.only.held_by),
            "alike": presenters.similar_values(self.chatbot, self.actor, found.only.similar),
            "subject": dump_subject(self.chatbot, self.actor, draft.subject),
        }

    def filed(self, token: PreviewToken, outcomes: Outcomes) -> HttpResponse:
        outcome = outcomes[0]
        if isinstance(outcome, Refused):
            return self.show_again(token, f"Nothing was filed. {outcome.detail}")
        minutes = minutes_left(outcome)
        if minutes is not None:
            in_minutes = f"It starts in {counted(minutes, 'minute')}; until then it can be cancelled."
            when = in_minutes if minutes else "It starts at once."
            if outcome.existing:
                messages.warning(self.request, f"Nothing was filed: this equal export is waiting already. {when}")
            else:
                approved = APPROVED_FIRST if token.draft.is_deletion and self.chatbot.four_eyes else ""
                messages.success(self.request, f"Filed. {when}{approved}")
        else:
            messages.warning(self.request, _FILED_BEFORE)
        return redirect("console:request", outcome.pk)


def _notes(subject: Selector) -> list[str]:
    return peculiarities(subject.value) if isinstance(subject, ByUci) else []


@form
def file_many(request: HttpRequest, slug: str) -> HttpResponseBase:
    return FileMany(request, chatbot_or_404(request, slug, roles=MANAGE_REQUESTS)).respond()


class RowResult(NamedTuple):
    row: int
    value: str
    outcome: ComplianceRequest | Refused

    @property
    def request(self) -> ComplianceRequest | None:
        return None if isinstance(self.outcome, Refused) else self.outcome

    @property
    def minutes(self) -> int | None:
        return minutes_left(self.request) if self.request else None

    @property
    def cells(self) -> list[str]:
        """The result for the CSV, without the value: a downloaded file would outlive the erasure."""
        if isinstance(self.outcome, Refused):
            return [str(self.row), "refused", "", self.outcome.code, self.outcome.detail]
        return [str(self.row), "existing" if self.outcome.existing else "filed", str(self.outcome.pk), "", ""]


class FileMany(FilingFlow):
    form_class = ManyForm
    form_template = "console/filing/many.html"
    preview_template = "console/filing/many_preview.html"
    title = "File many requests"
    is_many = True

    def respond(self) -> HttpResponseBase:
        if self.request.POST.get("step") == "outcomes":
            return self._download()
        return super().respond()

    def ask(self, form: ManyForm, **context: Any) -> HttpResponse:
        return super().ask(form, most=MAX_BATCH, **context)

    def preview_context(self, draft: Draft, found: Preview, form: ManyForm | None) -> dict[str, Any]:
        pasted = form.pasted_rows if form else None
        lines = presenters.lines(draft, found)
        return {
            "lines": lines,
            "has_references": any(draft.references),
            "tally": presenters.tally(lines, pasted),
            "repeated": sorted(pasted.repeated.items()) if pasted else [],
        }

    def filed(self, token: PreviewToken, outcomes: Outcomes) -> HttpResponse:
        rows = enumerate(zip(token.draft.rows, token.draft.values, strict=True))
        results = [RowResult(row, value, outcomes[place]) for place, (row, value) in rows if place in outcomes]
        filed = [one for one in results if one.request]
        return render(
            self.request,
            "console/filing/many_filed.html",
            title="Requests filed",
            chatbot=self.chatbot,
            results=sorted(results, key=lambda one: (one.request is not None, one.row)),
            filed=len(filed),
            refused=len(results) - len(filed),
            existing=sum(one.request.existing for one in filed if one.request),
            filed_before=_FILED_BEFORE if any(one.minutes is None for one in filed) else "",
            grace=min((one.minutes or 0 for one in filed), default=0),
            is_deletion=token.draft.is_deletion,
            token=self._outcomes.seal([one.cells for one in results]),
        )

    def _download(self) -> HttpResponseBase:
        try:
            rows = self._outcomes.open(self.request.POST.get("token", "")).value
        except InvalidToken:
            return self.invalid_token()
        columns, dialect = ("row", "outcome", "request_id", "code", "reason"), Chatbot.CsvDialect.STANDARD
        lines = (csv_cells.line(cells, dialect) for cells in rows)
        return csv_file("requests_filed.csv", [csv_cells.first_line(columns, dialect), *lines])

    @property
    def _outcomes(self) -> Seal:
        return Seal("outcomes", self.chatbot, self.actor)
