"""The forms of legal holds. Values and ids are taken exactly as they are typed."""

import re
from datetime import date, datetime, timedelta
from typing import Any, cast
from zoneinfo import ZoneInfo

from django import forms
from django.core.validators import MaxValueValidator, MinValueValidator
from django.utils.timezone import localdate

from chatbots.models import Chatbot
from common.times import EARLIEST, LATEST, midnight
from compliance.errors import Refused
from compliance.holds import LONGEST_REVIEW, HoldInput
from compliance.models import LegalHold
from compliance.requests.selectors import ByConversations, ByUci, Selector
from console.common.forms import AS_TYPED
from console.common.lists import day_filter
from console.filing.forms import uci_names

_ONE_DAY = timedelta(days=1)
_REVIEW_AFTER = timedelta(days=182)
_IN_CALENDAR = (MinValueValidator(EARLIEST.date()), MaxValueValidator(LATEST.date() - _ONE_DAY))

# A refusal's pointer -> the field at which it is shown.
_FIELDS = {
    "/unique_chatter_identifier_value": "value",
    "/unique_chatter_identifier_key": "key",
    "/conversation_ids": "ids",
    "/matter": "matter",
    "/basis": "basis",
    "/began_before": "began_to",
    "/review_at": "review_on",
    "/reason": "reason",
}


class HoldForm(forms.Form):
    """A form of an operation on holds; its dates are days in the chatbot's time zone."""

    use_required_attribute = False

    def __init__(self, *data: Any, chatbot: Chatbot, **options: Any) -> None:
        super().__init__(*data, **options)
        self.chatbot = chatbot
        self.zone = ZoneInfo(chatbot.timezone)

    def refuse(self, refusal: Refused) -> None:
        """Show an error at its field."""
        field = _FIELDS.get(re.sub(r"/[0-9]+$", "", refusal.pointer))
        self.add_error(field if field in self.fields else None, refusal.detail)

    def _midnight(self, day: date | None, *, days: int = 0) -> datetime | None:
        return midnight(day + timedelta(days=days), self.zone) if day else None


class ReviewForm(HoldForm):
    review_on = day_filter(validators=_IN_CALENDAR)

    def __init__(self, *data: Any, review_at: datetime | None = None, **options: Any) -> None:
        super().__init__(*data, **options)
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


class PlaceForm(ReviewForm):
    """A hold to be placed. The fields have no maximum length: browsers cut pasted text silently."""

    whom = forms.ChoiceField(
        initial="chatter",
        choices=[
            ("chatter", "One chatter, by UCI value"),
            ("ids", "Conversations, by platform ID"),
            ("all", "The whole chatbot"),
        ],
        widget=forms.RadioSelect,
    )
    key = forms.ChoiceField(required=False, error_messages={"invalid_choice": "Choose one of this chatbot's UCIs."})
    value = forms.CharField(required=False, strip=False, widget=forms.TextInput(attrs=AS_TYPED))
    ids = forms.CharField(required=False, strip=False, widget=forms.Textarea(attrs={**AS_TYPED, "rows": 4}))
    began_from = day_filter(validators=_IN_CALENDAR)
    began_to = day_filter(validators=_IN_CALENDAR)
    matter = forms.CharField(
        widget=forms.TextInput(attrs=AS_TYPED), error_messages={"required": "Enter your reference of the matter."}
    )
    basis = forms.ChoiceField(error_messages={"required": "Choose a basis."})

    def __init__(self, *data: Any, **options: Any) -> None:
        super().__init__(*data, **options)
        self.ucis = uci_names(self.chatbot)
        cast("forms.ChoiceField", self.fields["key"]).choices = self.ucis
        cast("forms.ChoiceField", self.fields["basis"]).choices = [("", "Choose one"), *LegalHold.Basis.choices]

    def clean(self) -> dict[str, Any]:
        given = super().clean() or {}
        whom = given.get("whom")
        if whom == "chatter" and not self.ucis:
            self.add_error(None, "This chatbot has no UCI. Choose one in its settings first.")
        elif whom == "chatter" and not given.get("value"):
            self.add_error("value", "Enter the value exactly as it is stored.")
        elif whom == "ids" and not self._ids:
            self.add_error("ids", "Enter the IDs, one per line.")
        return given

    @property
    def _ids(self) -> tuple[str, ...]:
        return tuple(line for line in re.split(r"\r\n|\r|\n", self.cleaned_data.get("ids", "")) if line)

    @property
    def selector(self) -> Selector | None:
        """The subject of a valid form. None for the whole chatbot."""
        given = self.cleaned_data
        if given["whom"] == "chatter":
            return ByUci(given["key"], given["value"])
        return ByConversations(self._ids) if given["whom"] == "ids" else None

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
        """The data with which the same form can be made again."""
        return {name: self.data.get(name, "") for name in self.fields}


class ReleaseForm(HoldForm):
    """The reason for a release, and the requests that the page said would continue, as one digest."""

    reason = forms.ChoiceField(
        choices=[("", "Choose one"), *LegalHold.ReleaseReason.choices],
        error_messages={"required": "Choose a reason."},
    )
    seen = forms.CharField(required=False, widget=forms.HiddenInput)
