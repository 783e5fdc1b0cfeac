"""The look-up page. What is looked for comes by POST and is answered on the page: no address or session has it."""

from typing import Any

from django import forms
from django.conf import settings
from django.http import HttpRequest, HttpResponse

from compliance.errors import Refused
from compliance.requests import lookup
from compliance.requests.inputs import ChatbotConfig
from compliance.requests.lookup import Answer, LookupKind
from console.common.pages import form, render
from console.common.scope import visible_chatbots
from console.common.several import one_of
from conversations.search import MAX_RESULTS

_TEMPLATE = "console/lookup/page.html"
_TITLE = "Look up"


class LookUpForm(forms.Form):
    """`ucis` are the names of the chatbot's present and former UCIs, the present one first."""

    what = forms.ChoiceField(label="Look for", choices=LookupKind.choices)
    key = forms.ChoiceField(label="UCI key", required=False, help_text="For a UCI value alone.")
    text = forms.CharField(
        label="Text",
        max_length=512,
        # A UCI value is exact: spaces around it make another.
        strip=False,
        widget=forms.TextInput(attrs={"autocomplete": "off", "spellcheck": "false", "autocapitalize": "off"}),
        help_text="As it was sent, exactly. Of a user name its beginning is enough.",
    )

    use_required_attribute = False
    label_suffix = ""

    def __init__(self, *args: Any, ucis: list[str], **options: Any) -> None:
        super().__init__(*args, **options)
        key: Any = self.fields["key"]
        key.choices = [(name, name) for name in ucis]


@form
def look_up(request: HttpRequest) -> HttpResponse:
    """Answer what one chatbot holds about a text."""
    chatbots = visible_chatbots(request)
    chatbot = one_of(chatbots, request.POST if request.method == "POST" else request.GET)
    if chatbot is None:
        return render(request, _TEMPLATE, title=_TITLE)
    ucis = list(ChatbotConfig(chatbot).ucis)
    asked = LookUpForm(request.POST if request.method == "POST" else None, ucis=ucis)
    answer: Answer | None = None
    if asked.is_valid():
        try:
            answer = lookup.look_up(
                chatbot=chatbot,
                what=LookupKind(asked.cleaned_data["what"]),
                text=asked.cleaned_data["text"],
                key=asked.cleaned_data["key"] or "",
            )
        except Refused as refused:
            asked.add_error("text", refused.detail)
    return render(
        request,
        _TEMPLATE,
        title=_TITLE,
        chatbot=chatbot,
        chatbots=chatbots,
        form=asked,
        answer=answer,
        what=asked.cleaned_data["what"] if answer else None,
        most=MAX_RESULTS,
        ledger_days=settings.ERASURE_LEDGER_DAYS.days,
    )
