"""Forms of API keys."""

from datetime import UTC, date, datetime, time, timedelta
from typing import Any, ClassVar

from django import forms
from django.core.validators import MaxValueValidator

from chatbots.models import ApiKey
from chatbots.operations.keys import OVERLAP_HOURS
from console.settings.forms.base import ConsoleForm


def _rate_limit() -> forms.IntegerField:
    return forms.IntegerField(
        label="Rate limit (calls per minute)",
        required=False,
        help_text="1 to 1,000,000. Leave empty for the default of the service.",
    )


class NewApiKeyForm(ConsoleForm):
    names: ClassVar = {"expires_at": "expires_on"}

    type = forms.ChoiceField(
        choices=ApiKey.Type.choices,
        initial=ApiKey.Type.SIGNING.value,
        widget=forms.RadioSelect,
        help_text="A signing key files deletions and exports, and its secret is never sent. A token can do what its "
        "scopes allow.",
    )
    label = forms.CharField(max_length=100, help_text="The system that uses it, for example CRM.")
    scopes = forms.MultipleChoiceField(
        choices=ApiKey.Scope.choices,
        required=False,
        widget=forms.CheckboxSelectMultiple,
        help_text="A signing key can have only the first two, and gets both if none is selected. A token needs one "
        "at least.",
    )
    expires_on = forms.DateField(
        label="Expires after",
        required=False,
        validators=[MaxValueValidator(date(9998, 12, 31))],
        widget=forms.DateInput(attrs={"type": "date"}),
        help_text="Last day of the key in UTC. Leave empty for a key that does not expire.",
    )
    rate_limit = _rate_limit()

    def arguments(self) -> dict[str, Any]:
        """Return the arguments of `operations.create_api_key`."""
        data = self.cleaned_data
        last = data["expires_on"]
        return {
            "type": ApiKey.Type(data["type"]),
            "label": data["label"],
            "scopes": data["scopes"],
            "rate_limit": data["rate_limit"],
            "expires_at": last and datetime.combine(last, time(), UTC) + timedelta(days=1),
        }


class CallbackSecretForm(ConsoleForm):
    overlap_hours = forms.IntegerField(
        label="Overlap in hours",
        initial=OVERLAP_HOURS,
        help_text="How long callbacks are also signed with the old secret, 0 to 720. Allow enough time to update the "
        "receiver; use 0 after a leak.",
    )


class RateLimitForm(ConsoleForm):
    rate_limit = _rate_limit()


class RevokeForm(ConsoleForm):
    sure = forms.BooleanField(
        label="Yes, revoke this key",
        error_messages={"required": "Select this to revoke the key."},
        help_text="Calls with it are refused immediately. This cannot be undone.",
    )
