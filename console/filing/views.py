"""File one request: choose the chatbot, name the subject, see the preview, confirm."""

from typing import Any

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.views.decorators.debug import sensitive_post_parameters

from chatbots.models import Chatbot
from compliance.errors import Refused
from compliance.requests.preview import Preview
from console.common.pages import chatbot_or_404, form, page, refusal, render
from console.common.scope import MANAGE_REQUESTS, within_scope
from console.filing import presenters
from console.filing.drafts import (
    Draft,
    InvalidToken,
    Outcomes,
    PreviewToken,
    dump_subject,
    load_subject,
    minutes_left,
    part_of,
)
from console.filing.flow import FILED_BEFORE, FilingFlow
from console.filing.forms import KINDS, OneForm
from console.filing.pasted_values import peculiarities
from console.filing.subjects import ClosedConversation, NoConversation, subjects_of


@page
def choose_chatbot(request: HttpRequest) -> HttpResponse:
    """List the chatbots for which the user can file; redirect if there is only one."""
    chatbots = list(
        within_scope(Chatbot.objects.order_by("name", "slug"), request, chatbot="id", roles=MANAGE_REQUESTS)
    )
    if not chatbots:
        raise PermissionDenied
    if len(chatbots) == 1:
        return redirect("console:file_request", chatbots[0].slug)
    return render(request, "console/filing/choose.html", title="File a request", chatbots=chatbots)


@form
@sensitive_post_parameters()
def file_request(request: HttpRequest, slug: str) -> HttpResponse:
    return FileOne(request, chatbot_or_404(request, slug, roles=MANAGE_REQUESTS)).respond()


class FileOne(FilingFlow[OneForm]):
    form_class = OneForm
    form_template = "console/filing/one.html"
    preview_template = "console/filing/preview.html"
    title = "File a request"
    is_many = False

    def respond(self) -> HttpResponse:
        post = self.request.POST
        if post.get("step") == "edit":
            return self.ask(self.form(initial=post.dict()))
        if self.request.method == "POST" and post.get("step") not in {"file", "preview"}:
            return self._about_conversation()
        return super().respond()

    def ask(self, form: OneForm, **context: Any) -> HttpResponse:
        return super().ask(form, subjects=self._offered(form), **context)

    def _offered(self, form: OneForm) -> list[dict[str, Any]]:
        """Return the subjects to choose from, if the form came with some."""
        offered = self.request.POST.getlist("offered") or form.initial.get("offered", [])
        chosen = form["subject"].value()
        found = []
        for text in [*offered, *([chosen] if chosen and chosen not in offered else [])]:
            try:
                subject = load_subject(self.chatbot, self.actor, text)
            except InvalidToken:
                continue
            found.append({"token": text, "draft": subject, "is_chosen": text == chosen, "notes": _notes(subject)})
        return found

    def _about_conversation(self) -> HttpResponse:
        """Show the form for the chatters of a conversation, whose page sends its number."""
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
        tokens = [dump_subject(self.chatbot, self.actor, subject) for subject in subjects]
        action = self.request.POST.get("action")
        # With two people in a conversation none is preselected, so that a quick click cannot choose the wrong one.
        chosen = tokens[0] if len(tokens) <= 2 else None
        initial = {"subject": chosen, "offered": tokens, "action": action if action in KINDS else None}
        return self.ask(self.form(initial=initial))

    def preview_context(self, draft: Draft, found: Preview, form: OneForm | None) -> dict[str, Any]:  # noqa: ARG002
        total = part_of(found).found.conversations
        return {
            "conversations": total,
            "unlisted": max(total - len(part_of(found).found.newest), 0),
            "notes": _notes(draft),
            "holds": presenters.holds(found.held_by),
            "alike": presenters.alike(self.chatbot, self.actor, found.similar),
            "subject": dump_subject(self.chatbot, self.actor, draft),
        }

    def filed(self, token: PreviewToken, outcomes: Outcomes) -> HttpResponse:
        outcome = outcomes[0]
        if isinstance(outcome, Refused):
            return self.show_again(token, f"Nothing was filed. {outcome.detail}")
        if minutes := minutes_left(outcome):
            when = f"It starts in {minutes} minute{'s' * (minutes != 1)}; until then it can be cancelled."
            if outcome.existing:
                messages.warning(self.request, f"Nothing was filed: this equal export is waiting already. {when}")
            else:
                messages.success(self.request, f"Filed. {when}")
        else:
            messages.warning(self.request, FILED_BEFORE)
        return redirect("console:request", outcome.pk)


def _notes(draft: Draft) -> list[str]:
    return peculiarities(draft.values[0]) if draft.values else []
