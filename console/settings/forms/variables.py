"""Forms of variables and the Unique Chatter Identifier."""

from collections.abc import Sequence
from typing import Any, ClassVar

from django import forms

from chatbots.models import Variable
from chatbots.operations.chatbots import NewVariable
from console.settings.forms.base import ConsoleForm
from console.settings.forms.chatbots import CATEGORIES


class UciForm(ConsoleForm):
    """The variable that identifies a chatter. Changing it requires a confirmation."""

    uci = forms.ChoiceField(label="Unique Chatter Identifier", widget=forms.RadioSelect)
    understood = forms.BooleanField(
        label="I understand that the new UCI applies to new conversations only",
        required=False,
        help_text="Existing conversations can only be found by the former UCI.",
    )

    def __init__(self, *args: Any, variables: Sequence[Variable], **kwargs: Any) -> None:
        self.current = next((one.name for one in variables if one.is_uci), None)
        super().__init__(*args, initial={"uci": self.current}, **kwargs)
        field: Any = self.fields["uci"]
        field.choices = [(one.name, one.name) for one in variables if one.category != Variable.Category.SYSTEM]

    def clean(self) -> dict[str, Any] | None:
        cleaned = super().clean()
        chosen = self.cleaned_data.get("uci")
        if chosen and self.current not in {None, chosen} and not self.cleaned_data.get("understood"):
            self.add_error("understood", "Select this to change the UCI.")
        return cleaned


class VariableForm(ConsoleForm):
    names: ClassVar = {"variables": "name"}

    category = forms.ChoiceField(choices=CATEGORIES, initial=CATEGORIES[0][0], widget=forms.RadioSelect)
    name = forms.CharField(
        strip=False,
        max_length=128,
        help_text="Custom: 1 to 128 printable characters, no leading or trailing spaces. User channel: lower-case "
        "letters, digits and underscores. Use the platform's exact name; it cannot be changed later.",
        widget=forms.TextInput(attrs={"autocomplete": "off", "autocapitalize": "none", "spellcheck": "false"}),
    )

    def variable(self) -> NewVariable:
        return NewVariable(self.cleaned_data["category"], self.cleaned_data["name"])
