"""The forms of a retention period: the period, and the number of conversations that its first run erases."""

import re
from typing import Any, ClassVar

from django import forms
from django.core import signing
from django.core.exceptions import ValidationError

from chatbots.models import Chatbot
from console.settings.forms import ConsoleForm


class RetentionForm(ConsoleForm):
    """The period, by its days; empty for none."""

    names: ClassVar = {"retention_days": "days"}

    days = forms.ChoiceField(
        label="Delete conversations after",
        required=False,
        choices=[("", "Off: never delete automatically"), *Chatbot.RetentionDays.choices],
        help_text="Counted from the last message of each conversation.",
    )

    def __init__(self, *args: Any, chatbot: Chatbot, **kwargs: Any) -> None:
        super().__init__(*args, initial={"days": chatbot.retention_days or ""}, **kwargs)

    @property
    def chosen(self) -> int | None:
        return int(self.cleaned_data["days"]) if self.cleaned_data["days"] else None


# A number that was shown holds for so long: then it has to be counted again.
_NUMBER_HOLDS_SECONDS = 30 * 60


class ShownNumberField(forms.IntegerField):
    """A whole number that may be typed as pages show it, with a comma or a space before each three digits."""

    def to_python(self, value: Any) -> int | None:
        text = str(value or "").strip()
        return super().to_python(re.sub(r"[,\s]", "", text) if _GROUPED.fullmatch(text) else value)


_GROUPED = re.compile(r"[0-9]{1,3}(?:[,\s][0-9]{3})+")


class RetentionConfirmationForm(ConsoleForm):
    """The number that the page has shown, typed. `shown` holds it, signed."""

    shown = forms.CharField(widget=forms.HiddenInput)
    confirmed = ShownNumberField(
        label="Number of conversations",
        min_value=0,
        widget=forms.TextInput(attrs={"inputmode": "numeric", "autocomplete": "off"}),
        localize=False,
    )

    def __init__(self, *args: Any, chatbot: Chatbot, days: int, **kwargs: Any) -> None:
        self._salt = f"retention:{chatbot.pk}:{days}"
        super().__init__(*args, **kwargs)

    def clean(self) -> dict[str, Any] | None:
        cleaned = super().clean()
        typed, token = self.cleaned_data.get("confirmed"), self.cleaned_data.get("shown", "")
        try:
            shown = signing.loads(token, salt=self._salt, max_age=_NUMBER_HOLDS_SECONDS)
        except signing.BadSignature:
            raise ValidationError("The number is no longer current. Check it again.") from None
        if typed is not None and typed != shown:
            self.add_error("confirmed", "This is not the number above.")
        return cleaned

    def sign(self, number: int) -> str:
        return signing.dumps(number, salt=self._salt)
