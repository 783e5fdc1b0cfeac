"""File requests: choose the chatbot, enter the subjects, check the preview, confirm, see the results."""

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
from console.common.scope import DECIDE, MANAGE_REQUESTS, may
from console.common.sealed import InvalidToken, Seal
from console.conversations.transcript_page import restricted_conversation
from console.filing import presenters
from console.filing.drafts import (
    Draft,
    Outcomes,
    PreviewToken,
    dump_subject,
    load_subject,
    minutes_left,
    requested_part,
)
from console.filing.flow import FILED_BEFORE, FilingFlow
from console.filing.forms import KINDS, ClosedConversation, ManyForm, NoConversation, OneForm, subjects_of
from console.filing.pasted_values import peculiarities
from console.requests.labels import APPROVED_FIRST
from conversations import csv_cells
from conversations.messages import MAX_IDENTITIES
from conversations.restriction import find_restricted


@page
def choose_chatbot(request: HttpRequest) -> HttpResponse:
    template, title = "console/filing/choose.html", "File a request"
    return pages.choose_chatbot(request, template, title=title, roles=MANAGE_REQUESTS, then="console:file_request")


@form
def file_request(request: HttpRequest, slug: str) -> HttpResponseBase:
    return FileOne(request, chatbot_or_404(request, slug, roles=MANAGE_REQUESTS)).respond()


class FileOne(FilingFlow[OneForm]):
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
            messages.warning(self.request, FILED_BEFORE)
        return redirect("console:request", outcome.pk)


def _notes(subject: Selector) -> list[str]:
    return peculiarities(subject.value) if isinstance(subject, ByUci) else []


@form
def file_many(request: HttpRequest, slug: str) -> HttpResponseBase:
    return FileMany(request, chatbot_or_404(request, slug, roles=MANAGE_REQUESTS)).respond()


class RowResult(NamedTuple):
    """The result of a row: its request, or the error."""

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


class FileMany(FilingFlow[ManyForm]):
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
            filed_before=FILED_BEFORE if any(one.minutes is None for one in filed) else "",
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
