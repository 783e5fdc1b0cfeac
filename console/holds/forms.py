"""The forms of legal holds. Values and ids are taken exactly as they are typed."""

from datetime import date, datetime, timedelta
from typing import Any, ClassVar
from zoneinfo import ZoneInfo

from django import forms
from django.core.validators import MaxValueValidator, MinValueValidator
from django.utils.timezone import localdate

from common.times import EARLIEST, LATEST, midnight
from compliance.holds import LONGEST_REVIEW, HoldInput
from compliance.models import LegalHold
from compliance.requests.selectors import Selector
from console.common.forms import AS_TYPED, ChatbotForm, ConsoleForm, required_choice
from console.common.lists import day_filter
from console.filing.forms import SubjectForm

_ONE_DAY = timedelta(days=1)
_REVIEW_AFTER = timedelta(days=182)
_IN_CALENDAR = (MinValueValidator(EARLIEST.date()), MaxValueValidator(LATEST.date() - _ONE_DAY))


class ReviewForm(ChatbotForm):
    """The next review of a hold. Dates are days in the chatbot's time zone."""

    use_required_attribute = False
    names: ClassVar = {"review_at": "review_on"}

    review_on = day_filter(validators=_IN_CALENDAR)

    def __init__(self, *data: Any, review_at: datetime | None = None, **options: Any) -> None:
        super().__init__(*data, **options)
        self.zone = ZoneInfo(self.chatbot.timezone)
        today = localdate(timezone=self.zone)
        field = self.fields["review_on"]
        field.required = True
        field.error_messages["required"] = "Choose a day."
        later = localdate(review_at, self.zone) if review_at else today
        field.initial = max(today + _REVIEW_AFTER, later)
        limits = {"min": today + _ONE_DAY, "max": today + LONGEST_REVIEW - _ONE_DAY}
        field.widget.attrs |= {name: day.isoformat() for name, day in limits.items()}

    @property
    def review_at(self) -> datetime:
        return midnight(self.cleaned_data["review_on"], self.zone)


class PlaceForm(SubjectForm, ReviewForm):
    """A hold to be placed. The fields have no maximum length: browsers cut pasted text silently."""

    names: ClassVar = {**SubjectForm.names, **ReviewForm.names, "began_before": "began_to"}
    # None for the whole chatbot.
    selector: Selector | None = None

    whom = forms.ChoiceField(
        initial="chatter",
        choices=[
            ("chatter", "One chatter, by UCI value"),
            ("ids", "Conversations, by platform ID"),
            ("all", "The whole chatbot"),
        ],
        widget=forms.RadioSelect,
    )
    began_from = day_filter(validators=_IN_CALENDAR)
    began_to = day_filter(validators=_IN_CALENDAR)
    matter = forms.CharField(
        widget=forms.TextInput(attrs=AS_TYPED), error_messages={"required": "Enter your reference of the matter."}
    )
    basis = required_choice(LegalHold.Basis.choices, "Choose a basis.")

    def clean(self) -> None:
        super().clean()
        given = self.cleaned_data
        if given.get("whom") != "all" and not self.errors.keys() & {"whom", "key", "value", "ids"}:
            self.selector = self.typed_subject(given)

    def _midnight(self, day: date | None, *, days: int = 0) -> datetime | None:
        return midnight(day + timedelta(days=days), self.zone) if day else None

    @property
    def given_input(self) -> HoldInput:
        given = self.cleaned_data
        return HoldInput(
            selector=self.selector,
            matter=given["matter"],
            basis=given["basis"],
            review_at=self.review_at,
            began_from=self._midnight(given["began_from"]),
            began_before=self._midnight(given["began_to"], days=1),
        )

    @property
    def as_given(self) -> dict[str, str]:
        return {name: self.data.get(name, "") for name in self.fields}


class ReleaseForm(ConsoleForm):
    """The reason for a release, and the requests that the page said would continue, as one digest."""

    use_required_attribute = False

    reason = required_choice(LegalHold.ReleaseReason.choices, "Choose a reason.")
    seen = forms.CharField(required=False, widget=forms.HiddenInput)
