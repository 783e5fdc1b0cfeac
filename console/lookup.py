"""The look-up page. The search text is sent by POST and is in no URL or session."""

from typing import Any

from django import forms
from django.conf import settings
from django.http import HttpRequest, HttpResponse

from compliance.errors import Refused
from compliance.requests import queries
from compliance.requests.inputs import ChatbotConfig
from compliance.requests.queries import LookupKind, LookupResult
from console.common.forms import AS_TYPED
from console.common.pages import form, render
from console.common.scope import MANAGE_REQUESTS, may, one_of, visible_chatbots
from conversations.search import MAX_RESULTS

_TEMPLATE = "console/lookup/page.html"
_TITLE = "Look up"


class LookUpForm(forms.Form):
    """`ucis` are the names of the chatbot's current and former UCIs, the current one first."""

    what = forms.ChoiceField(label="Search by", choices=LookupKind.choices)
    key = forms.ChoiceField(label="UCI key", required=False, help_text="Only for a UCI value.")
    text = forms.CharField(
        label="Text",
        max_length=512,
        # A UCI value is exact, spaces included.
        strip=False,
        widget=forms.TextInput(attrs=AS_TYPED),
        help_text="The exact text. Of a user name, any words or their beginnings; accents and case do not matter.",
    )

    use_required_attribute = False
    label_suffix = ""

    def __init__(self, *args: Any, ucis: list[str], **options: Any) -> None:
        super().__init__(*args, **options)
        key: Any = self.fields["key"]
        key.choices = [(name, name) for name in ucis]


@form
def look_up(request: HttpRequest) -> HttpResponse:
    """Show what a chatbot holds about a text."""
    chatbots = visible_chatbots(request)
    chatbot = one_of(chatbots, request.POST if request.method == "POST" else request.GET)
    if chatbot is None:
        return render(request, _TEMPLATE, title=_TITLE)
    ucis = list(ChatbotConfig(chatbot).ucis)
    lookup_form = LookUpForm(request.POST if request.method == "POST" else None, ucis=ucis)
    answer: LookupResult | None = None
    if lookup_form.is_valid():
        try:
            answer = queries.look_up(
                chatbot=chatbot,
                what=LookupKind(lookup_form.cleaned_data["what"]),
                text=lookup_form.cleaned_data["text"],
                key=lookup_form.cleaned_data["key"] or "",
            )
        except Refused as refused:
            lookup_form.add_error("text", refused.detail)
    return render(
        request,
        _TEMPLATE,
        title=_TITLE,
        chatbot=chatbot,
        chatbots=chatbots,
        form=lookup_form,
        answer=answer,
        what=lookup_form.cleaned_data["what"] if answer else None,
        may_file=may(request, chatbot, MANAGE_REQUESTS),
        most=MAX_RESULTS,
        ledger_days=settings.ERASURE_LEDGER_DAYS.days,
    )
