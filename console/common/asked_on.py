"""The field "Person asked on" of each form that files."""

from typing import Any
from zoneinfo import ZoneInfo

from django import forms
from django.utils.timezone import localdate

from chatbots.models import Chatbot
from compliance.errors import Refused
from compliance.requests.inputs import LONGEST_AGO, read_requested_at


class AskedOnForm(forms.Form):
    requested_at = forms.CharField(required=False, widget=forms.DateInput(attrs={"type": "date"}))

    def __init__(self, *data: Any, chatbot: Chatbot, **options: Any) -> None:
        super().__init__(*data, **options)
        self.chatbot = chatbot
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
