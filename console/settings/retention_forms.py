"""The forms of a chatbot's retention period: the choice of one, and the number of conversations that it erases."""

import re
from datetime import timedelta
from typing import Any, ClassVar

from django import forms
from django.core.exceptions import ValidationError
from django.http import HttpRequest

from chatbots.models import LONGEST_RETENTION, SHORTEST_RETENTION, Chatbot
from compliance.retention import policy
from console.common.forms import ConsoleForm
from console.common.scope import DECIDE, actor_of
from console.common.sealed import InvalidToken, Seal
from console.settings.forms import Answer, SettingForm


class RetentionForm(SettingForm):
    """The period: from the product's list, or any number of days; empty for none."""

    section = form_name = "retention"
    roles = DECIDE
    OTHER: ClassVar = "other"
    names: ClassVar = {"retention_days": "days"}

    days = forms.ChoiceField(
        label="Delete conversations after",
        required=False,
        choices=[
            ("", "Off: never delete automatically"),
            *((days, policy.label(days)) for days in Chatbot.RetentionDays.values),
            (OTHER, "Another number of days"),
        ],
        help_text="Counted from the last message of each conversation.",
    )
    other_days = forms.IntegerField(
        label="Number of days",
        required=False,
        min_value=SHORTEST_RETENTION,
        max_value=LONGEST_RETENTION,
        help_text=f"For “Another number of days”: {SHORTEST_RETENTION} to {LONGEST_RETENTION:,}.",
    )

    def __init__(self, *args: Any, chatbot: Chatbot, **kwargs: Any) -> None:
        days = chatbot.retention_days
        is_other = days is not None and days not in Chatbot.RetentionDays.values
        initial = {"days": self.OTHER, "other_days": days} if is_other else {"days": days or ""}
        super().__init__(*args, chatbot=chatbot, initial=initial, **kwargs)

    def clean(self) -> None:
        super().clean()
        is_other, number = self.cleaned_data.get("days") == self.OTHER, self.cleaned_data.get("other_days")
        if is_other and number is None and "other_days" not in self.errors:
            self.add_error("other_days", "Enter the number of days.")
        if number is not None and not is_other:
            self.add_error("other_days", "Choose “Another number of days” for this number, or leave it empty.")

    def save(self, request: HttpRequest) -> Answer:
        """Save a longer period, or none, at once. For any other period, show first what it would erase."""
        chosen = self.cleaned_data["days"]
        days = self.cleaned_data["other_days"] if chosen == self.OTHER else int(chosen) if chosen else None
        policy.check_period(self.chatbot, days)
        if days is not None and policy.needs_confirmation(self.chatbot, days):
            return self._confirm(request, days)
        policy.change_period(chatbot=self.chatbot, days=days, actor=actor_of(request))
        return "Retention period saved." if days else "Retention turned off. A run that waited is cancelled."

    def _confirm(self, request: HttpRequest, days: int) -> Answer:
        """Save the period if the shown number was confirmed, or else show the number."""
        actor = actor_of(request)
        confirmation = request.POST if "shown" in request.POST else None
        form = RetentionConfirmationForm(confirmation, chatbot=self.chatbot, actor=actor, days=days)
        if form.is_bound and form.is_valid():
            confirmed = form.cleaned_data["confirmed"]
            policy.change_period(chatbot=self.chatbot, days=days, actor=actor, confirmed=confirmed)
            return "Retention period saved. The first run waits 24 hours; until then it can be cancelled."
        found = policy.forecast(self.chatbot, days)
        return self.show(
            request,
            "retention_confirm.html",
            "Delete conversations automatically",
            status=400 if form.is_bound else 200,
            period=policy.label(days),
            chosen=self,
            found=found,
            is_typed=found.first_run > 0 or not found.is_whole,
            form=form,
            token=form.sealed(found.first_run),
            waits_hours=int(policy.FIRST_RUN_WAITS.total_seconds() // 3600),
        )


# A number on the page is valid for this long. Then it has to be counted again.
_NUMBER_HOLDS = timedelta(minutes=30)


class ShownNumberField(forms.IntegerField):
    """A whole number that may be typed as pages show it, with commas or spaces between groups of three digits."""

    def to_python(self, value: Any) -> int | None:
        text = str(value or "").strip()
        return super().to_python(re.sub(r"[,\s]", "", text) if _GROUPED.fullmatch(text) else value)


_GROUPED = re.compile(r"[0-9]{1,3}(?:[,\s][0-9]{3})+")


class RetentionConfirmationForm(ConsoleForm):
    """The number on the page, typed by the user unless it is 0. `shown` contains it, sealed.

    A first run that was confirmed with 0 is held if it would erase anything.
    """

    shown = forms.CharField(widget=forms.HiddenInput)
    confirmed = ShownNumberField(
        label="Number of conversations",
        min_value=0,
        required=False,
        widget=forms.TextInput(attrs={"inputmode": "numeric", "autocomplete": "off", "required": True}),
        localize=False,
    )

    def __init__(self, *args: Any, chatbot: Chatbot, actor: str, days: int, **kwargs: Any) -> None:
        self._seal = Seal(f"retention:{days}", chatbot, actor)
        super().__init__(*args, **kwargs)

    def clean(self) -> None:
        super().clean()
        typed = self.cleaned_data.get("confirmed")
        try:
            shown = self._seal.open(self.cleaned_data.get("shown", ""))
        except InvalidToken:
            shown = None
        if shown is None or shown.is_older_than(_NUMBER_HOLDS):
            raise ValidationError("The number is no longer current. Check it again.")
        if shown.value == 0 and not self.data.get("confirmed"):
            self.cleaned_data["confirmed"] = 0
        elif "confirmed" not in self.errors and typed != shown.value:
            self.add_error("confirmed", "This is not the number above.")

    def sealed(self, number: int) -> str:
        return self._seal.seal(number)
