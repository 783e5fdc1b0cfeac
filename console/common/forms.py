"""Base forms of the console: one that an operation validates, and one with the field "Person asked on"."""

import re
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar
from zoneinfo import ZoneInfo

from django import forms
from django.core.exceptions import NON_FIELD_ERRORS, ValidationError
from django.forms.utils import ErrorList
from django.utils.timezone import localdate

from chatbots.models import Chatbot
from compliance.errors import Refused
from compliance.requests.inputs import LONGEST_AGO, read_requested_at

# Attributes of a field that takes the typed text unchanged.
AS_TYPED = {"autocomplete": "off", "autocapitalize": "none", "spellcheck": "false"}


def required_choice(choices: Iterable[tuple[str, Any]], message: str) -> forms.ChoiceField:
    """Return a field in which nothing is chosen at first. `message` is the error if that stays so."""
    return forms.ChoiceField(choices=[("", "Choose one"), *choices], error_messages={"required": message})


class Errors(ErrorList):
    def __init__(self, initlist: Any = None, error_class: str | None = None, *args: Any, **kwargs: Any) -> None:
        super().__init__(initlist, f"errors {error_class or ''}".strip(), *args, **kwargs)


class ConsoleForm(forms.Form):
    """A form that an operation validates: call it if the form is valid, and pass its errors to `refuse`."""

    # The operation's name of a field, as in a refusal's pointer -> the form's name of it, where they differ.
    names: ClassVar[Mapping[str, str]] = {}

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        # There are several forms on a page, so each needs ids of its own.
        kwargs.setdefault("auto_id", f"{type(self).__name__.removesuffix('Form').lower()}_%s")
        kwargs.setdefault("label_suffix", "")
        kwargs.setdefault("error_class", Errors)
        super().__init__(*args, **kwargs)

    def refuse(self, error: ValidationError | Refused) -> None:
        if isinstance(error, Refused):
            errors = {re.sub(r"/[0-9]+$", "", error.pointer).removeprefix("/"): [error.detail]}
        else:
            errors = error.message_dict if hasattr(error, "error_dict") else {NON_FIELD_ERRORS: error.messages}
        for name, messages in errors.items():
            field = self.names.get(name, name)
            for message in messages:
                self.add_error(field if field in self.fields else None, message)

    @property
    def faults(self) -> list[tuple[str, str, str]]:
        """Return (id of the input, label, message) of each error; the id may be empty."""
        return [
            (self[name].id_for_label or self[name].auto_id, str(self[name].label), str(message))
            if name in self.fields
            else ("", "", str(message))
            for name, messages in self.errors.items()
            for message in messages
        ]


class ChatbotForm(ConsoleForm):
    def __init__(self, *args: Any, chatbot: Chatbot, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.chatbot = chatbot


class RequestedAtForm(ChatbotForm):
    """A form that files a request, with the day on which the person asked if that was earlier."""

    requested_at = forms.CharField(required=False, widget=forms.DateInput(attrs={"type": "date"}))

    def __init__(self, *data: Any, chatbot: Chatbot, **options: Any) -> None:
        super().__init__(*data, chatbot=chatbot, **options)
        today = localdate(timezone=ZoneInfo(chatbot.timezone))
        limits = {"min": today - LONGEST_AGO, "max": today}
        self.fields["requested_at"].widget.attrs |= {name: day.isoformat() for name, day in limits.items()}

    def clean_requested_at(self) -> str:
        given: str = self.cleaned_data["requested_at"]
        try:
            read_requested_at(given, self.chatbot)
        except Refused as refusal:
            raise forms.ValidationError(refusal.detail) from None
        return given
