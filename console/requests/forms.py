"""The forms of the requests' pages."""

from datetime import UTC, date, datetime, time, timedelta
from typing import Any, cast
from zoneinfo import ZoneInfo

from django import forms

from chatbots.models import Chatbot
from common.times import EARLIEST, LATEST
from compliance.models import ComplianceRequest
from compliance.models.notes import MOST_CHARACTERS
from compliance.requests.reasons import REASONS, Decision
from console.requests.filters import DUE, VIEWS, RequestFilters

_ANY = ("", "Any")


def _any_of(choices: list[tuple[str, str]]) -> forms.ChoiceField:
    return forms.ChoiceField(choices=[_ANY, *choices], required=False)


def _date() -> forms.DateField:
    return forms.DateField(
        required=False, input_formats=["%Y-%m-%d"], widget=forms.DateInput(format="%Y-%m-%d", attrs={"type": "date"})
    )


class FilterForm(forms.Form):
    """What a list is asked for, in its address: nothing in it names a chatter. Its days are those of `zone`."""

    use_required_attribute = False

    kind = _any_of(ComplianceRequest.Kind.choices)
    status = _any_of(ComplianceRequest.Status.choices)
    hold_reason = _any_of(ComplianceRequest.HoldReason.choices)
    due = _any_of([("overdue", "Overdue"), ("soon", "Within 7 days")])
    origin = _any_of(ComplianceRequest.Origin.choices)
    received_from = _date()
    received_to = _date()
    reference = forms.RegexField(
        r"^[A-Za-z0-9._:-]{1,64}$",
        required=False,
        error_messages={"invalid": "A reference has 1 to 64 of A-Z a-z 0-9 . _ : -"},
    )

    def __init__(self, *args: Any, chatbots: list[Chatbot], zone: str, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._zone = ZoneInfo(zone)
        offered = [(one.slug, one.name) for one in chatbots]
        self.fields = {"chatbot": _any_of(offered), **self.fields}
        self.fields["hold_reason"].label = "Held because"
        self.fields["status"].label = "State"
        self.fields["received_from"].label = f"Filed from ({zone})"
        self.fields["received_to"].label = "to"

    @property
    def narrows(self) -> bool:
        """Say whether the filters beside the chatbot are used."""
        return any(self.data.get(name) for name in self.fields)

    def filters(self, view: str) -> RequestFilters:
        """Return what is asked for. Only of a form that is valid."""
        given = self.cleaned_data
        return RequestFilters(
            view=view if view in VIEWS else "all",
            kind=given["kind"] or None,
            status=given["status"] or None,
            hold_reason=given["hold_reason"] or None,
            due=given["due"] if given["due"] in DUE else None,
            origin=given["origin"] or None,
            reference=given["reference"] or None,
            received_after=self._midnight(given["received_from"]),
            received_before=self._midnight(given["received_to"], days=1),
        )

    def _midnight(self, day: date | None, *, days: int = 0) -> datetime | None:
        if day is None:
            return None
        # Nothing was filed before or will be after, and beyond there are days without a next one.
        within = min(max(day, EARLIEST.date()), LATEST.date())
        return datetime.combine(within + timedelta(days=days), time(), self._zone).astimezone(UTC)


class DecisionForm(forms.Form):
    """Why somebody decides so, and what they were shown that the request is held for."""

    held_for = forms.CharField(required=False, empty_value=None, widget=forms.HiddenInput)
    reason = forms.ChoiceField(error_messages={"required": "Say why."})
    note = forms.CharField(
        label="Note (optional)",
        required=False,
        max_length=MOST_CHARACTERS,
        # A browser that restores what was written would keep it longer than we do.
        widget=forms.Textarea(attrs={"rows": 3, "autocomplete": "off"}),
        help_text="Seen by everybody who sees the request. Write no more about the person than is needed: a deletion "
        "of the person empties it, but the log of what was decided, and why, stays.",
    )

    def __init__(self, *args: Any, decision: Decision, **kwargs: Any) -> None:
        super().__init__(*args, **(kwargs | {"prefix": decision.value}))
        reason = cast("forms.ChoiceField", self.fields["reason"])
        reason.choices = [("", "Choose one"), *REASONS[decision].choices]


class BulkForm(forms.Form):
    """One decision, with its reason, on many requests."""

    choice = forms.ChoiceField(error_messages={"required": "Choose what to do with the selected requests."})

    def __init__(self, *args: Any, decisions: list[Decision], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        choice = cast("forms.ChoiceField", self.fields["choice"])
        choice.choices = [
            ("", "Choose a decision and its reason"),
            *(
                (decision.value.title(), [(f"{decision}:{code}", words) for code, words in REASONS[decision].choices])
                for decision in decisions
            ),
        ]

    @property
    def chosen(self) -> tuple[Decision, str]:
        """The decision and its reason. Only of a form that is valid."""
        decision, _, reason = self.cleaned_data["choice"].partition(":")
        return Decision(decision), reason
