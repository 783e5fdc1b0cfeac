"""Forms that decide on requests."""

from typing import Any, cast

from django import forms

from compliance.models.requests import MOST_CHARACTERS_OF_NOTE
from compliance.requests.decisions import REASONS, Decision


class DecisionForm(forms.Form):
    """The reason for a decision, and the hold that the page showed."""

    held_for = forms.CharField(required=False, empty_value=None, widget=forms.HiddenInput)
    reason = forms.ChoiceField(error_messages={"required": "Choose a reason."})
    note = forms.CharField(
        label="Note (optional)",
        required=False,
        max_length=MOST_CHARACTERS_OF_NOTE,
        # A browser that restores the text would keep it longer than we do.
        widget=forms.Textarea(attrs={"rows": 3, "autocomplete": "off"}),
        help_text="Visible to everyone who can see the request. Write no more about the person than necessary: the "
        "note is erased with the person's data, but the decision and its reason stay in the change log.",
    )

    def __init__(self, *args: Any, decision: Decision, **kwargs: Any) -> None:
        super().__init__(*args, **(kwargs | {"prefix": decision.value}))
        reason = cast("forms.ChoiceField", self.fields["reason"])
        reason.choices = [("", "Choose one"), *REASONS[decision].choices]


class BulkForm(forms.Form):
    """One decision, with its reason, for many requests."""

    choice = forms.ChoiceField(error_messages={"required": "Choose what to do with the selected requests."})

    def __init__(self, *args: Any, decisions: list[Decision], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        choice = cast("forms.ChoiceField", self.fields["choice"])
        choice.choices = [
            ("", "Choose a decision and its reason"),
            *(
                (decision.value.title(), [(f"{decision}:{code}", label) for code, label in REASONS[decision].choices])
                for decision in decisions
            ),
        ]

    @property
    def chosen(self) -> tuple[Decision, str]:
        """The decision and its reason, of a valid form."""
        decision, _, reason = self.cleaned_data["choice"].partition(":")
        return Decision(decision), reason
