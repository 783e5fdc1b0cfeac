"""The steps of filing, for one request and for many: form, preview, confirmation, result."""

from abc import ABC, abstractmethod
from typing import Any, Generic, TypeVar

from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase

from chatbots.models import Chatbot
from compliance.errors import Refused
from console.common.pages import refusal, render
from console.common.scope import actor_of
from console.common.sealed import InvalidToken
from console.filing import presenters
from console.filing.drafts import (
    Draft,
    NotConfirmed,
    Outcomes,
    PreviewToken,
    confirm,
    dump,
    load,
    preview_draft,
    requested_part,
)
from console.filing.forms import KINDS, FilingForm

_NOT_CONFIRMED = {
    "mistyped": "Nothing was filed: the text you typed does not match. Check the numbers and type it again.",
    "changed": "Nothing was filed: there is more data now than in your preview. Check the new numbers.",
    "expired": "Nothing was filed: a preview is valid for 15 minutes. This is a new one.",
}
FILED_BEFORE = (
    "Nothing new was filed: this preview was confirmed before, and this is its result. To file the same again, start "
    "with a new preview."
)

_Form = TypeVar("_Form", bound=FilingForm)


class FilingFlow(ABC, Generic[_Form]):
    form_class: type[_Form]
    form_template: str
    preview_template: str
    title: str
    is_many: bool

    def __init__(self, request: HttpRequest, chatbot: Chatbot) -> None:
        self.request = request
        self.chatbot = chatbot
        self.actor = actor_of(request)

    def respond(self) -> HttpResponseBase:
        """Return the page of the step in the request."""
        if self.request.method != "POST":
            return self.ask(self.form())
        if self.request.POST.get("step") == "file":
            return self._file()
        return self._preview()

    def form(self, *data: Any, **options: Any) -> _Form:
        return self.form_class(*data, chatbot=self.chatbot, actor=self.actor, **options)

    def ask(self, form: _Form, **context: Any) -> HttpResponse:
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

    def _show(self, draft: Draft, *, form: _Form | None = None, nonce: str = "", error: str = "") -> HttpResponse:
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
    def preview_context(self, draft: Draft, found: Any, form: _Form | None) -> dict[str, Any]:
        """Return the context of the preview's template that is added to the common one."""

    @abstractmethod
    def filed(self, token: PreviewToken, outcomes: Outcomes) -> HttpResponse:
        """Return the page of the result."""
