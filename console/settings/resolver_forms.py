"""The form with which a resolver is tried."""

from collections.abc import Sequence
from typing import Any

from django import forms

from console.settings.forms import ConsoleForm

_MOST_CHARACTERS = 10_000


class TrialForm(ConsoleForm):
    """A value for each variable that is sent. Fields have numbers: names of variables are any text."""

    def __init__(self, *args: Any, sent: Sequence[str], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._sent = list(sent)
        for number, name in enumerate(sent):
            attributes = {"autocomplete": "off", "autocapitalize": "none", "spellcheck": "false"}
            self.fields[f"value_{number}"] = forms.CharField(
                label=name, max_length=_MOST_CHARACTERS, strip=False, widget=forms.TextInput(attrs=attributes)
            )

    def values(self) -> dict[str, str]:
        """Return the values by the variables' names."""
        return {name: self.cleaned_data[f"value_{number}"] for number, name in enumerate(self._sent)}
