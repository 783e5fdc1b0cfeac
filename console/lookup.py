"""The look-up page. The search text is sent by POST and is in no URL or session."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from django import forms
from django.conf import settings
from django.db.models import Q
from django.http import HttpRequest, HttpResponse

from chatbots.models import Chatbot, Variable
from compliance.errors import Refused
from compliance.requests.lookup import MOST_SHOWN, Lookup, LookupKind, LookupResult, look_up
from compliance.requests.selectors import ByUci
from console.common.forms import AS_TYPED
from console.common.pages import form, render
from console.common.scope import DECIDE, MANAGE_REQUESTS, actor_of, find_visible, may, visible_chatbots
from console.filing.pasted_values import peculiarities
from console.filing.presenters import Offer, offer, similar_values
from conversations.protection import find_restricted
from conversations.search import MAX_RESULTS

_TEMPLATE = "console/lookup/page.html"


class LookUpForm(forms.Form):
    """`chatbots` are those that the user may see. A field with a single choice is not shown."""

    what = forms.ChoiceField(label="Search by", choices=LookupKind.choices)
    text = forms.CharField(
        label="Text",
        max_length=512,
        # A UCI value is exact, spaces included.
        strip=False,
        widget=forms.TextInput(attrs=AS_TYPED),
        help_text="The exact text. For a user name, any of its words or their beginnings.",
    )
    key = forms.ChoiceField(label="UCI key", required=False, help_text="Only for a UCI value.")
    chatbot = forms.ChoiceField(label="Chatbot", required=False)

    use_required_attribute = False
    label_suffix = ""

    def __init__(self, *args: Any, chatbots: Sequence[Chatbot], **options: Any) -> None:
        super().__init__(*args, **options)
        ucis = Variable.objects.filter(Q(is_uci=True) | Q(was_uci=True), chatbot__in=chatbots)
        names = ucis.order_by("name").values_list("name", flat=True).distinct()
        if not self.is_bound:
            self.fields["text"].widget.attrs["autofocus"] = True
        self._choose("key", "Every key", [(name, name) for name in names])
        self._choose("chatbot", "All chatbots", [(one.slug, one.name) for one in chatbots])

    def _choose(self, name: str, all_of_them: str, choices: list[tuple[str, str]]) -> None:
        field: Any = self.fields[name]
        field.choices = [("", all_of_them), *choices]
        if len(choices) < 2:
            field.widget = field.hidden_widget()


@dataclass(frozen=True)
class Section:
    """A result, with its chatters and similar values to act on, and the numbers of its restricted conversations."""

    result: LookupResult
    actor: str
    sees_restricted: bool

    @cached_property
    def restricted(self) -> set[int]:
        numbers = [row.number for row in self.result.found.rows]
        return find_restricted(self.result.chatbot.pk, numbers) if numbers else set()

    @cached_property
    def chatters(self) -> list[Offer]:
        """The chatters of the conversations that the user reads, and the one that was looked up by value."""
        hidden = set() if self.sees_restricted else self.restricted
        values = {one for number, values in self.result.values.items() if number not in hidden for one in values}
        return [
            offer(self.result.chatbot, self.actor, ByUci(*one), number)
            for one, number in self.result.chatters
            if one in values or self.result.key
        ]

    @cached_property
    def similar(self) -> list[Offer]:
        return similar_values(self.result.chatbot, self.actor, self.result.similar)


@form
def look_up_page(request: HttpRequest) -> HttpResponse:
    """Show the conversations and requests that match a text, in all chatbots of the user or in one."""
    chatbots = visible_chatbots(request)
    given = request.POST if request.method == "POST" else request.GET
    chosen = find_visible(chatbots, slug) if (slug := given.get("chatbot")) else None
    initial = {"chatbot": chosen.slug if chosen else ""}
    look_up_form = LookUpForm(request.POST if request.method == "POST" else None, chatbots=chatbots, initial=initial)
    lookup: Lookup | None = None
    kind: LookupKind | None = None
    notes: list[str] = []
    if look_up_form.is_valid():
        asked = look_up_form.cleaned_data
        kind = LookupKind(asked["what"])
        try:
            lookup = look_up(
                chatbots=[chosen] if chosen else chatbots,
                kind=kind,
                text=asked["text"],
                key=asked["key"],
                actor=actor_of(request),
            )
            notes = peculiarities(asked["text"]) if kind == LookupKind.VALUE else []
        except Refused as refused:
            look_up_form.add_error("text", refused.detail)
    return render(
        request,
        _TEMPLATE,
        title="Look up",
        chatbots=chatbots,
        form=look_up_form,
        lookup=lookup,
        sections=[
            Section(one, actor_of(request), may(request, one.chatbot, DECIDE))
            for one in (lookup.results if lookup else [])
        ],
        may_file=[one for one in chatbots if may(request, one, MANAGE_REQUESTS)],
        kind=kind,
        notes=notes,
        most=MAX_RESULTS,
        most_chatbots=MOST_SHOWN,
        ledger_days=settings.ERASURE_LEDGER_DAYS.days,
    )
