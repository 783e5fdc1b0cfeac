"""Forms of API keys."""

from datetime import UTC, date, datetime, time, timedelta
from typing import Any, ClassVar

from django import forms
from django.core.validators import MaxValueValidator

from chatbots.models import ApiKey
from chatbots.operations import OVERLAP_HOURS
from console.settings.forms.base import ConsoleForm


def _rate_limit() -> forms.IntegerField:
    return forms.IntegerField(
        label="Rate limit, in calls a minute",
        required=False,
        help_text="1 to 1,000,000. Empty: as many as the settings of the service say.",
    )


class NewApiKeyForm(ConsoleForm):
    names: ClassVar = {"expires_at": "expires_on"}

    type = forms.ChoiceField(
        choices=ApiKey.Type.choices,
        initial=ApiKey.Type.SIGNING.value,
        widget=forms.RadioSelect,
        help_text="A signing key files deletions and exports; its secret never travels. A token does what its scopes "
        "allow.",
    )
    label = forms.CharField(max_length=100, help_text="Whose it is, such as CRM.")
    scopes = forms.MultipleChoiceField(
        choices=ApiKey.Scope.choices,
        required=False,
        widget=forms.CheckboxSelectMultiple,
        help_text="Of a signing key the first two alone, and both when none is ticked. A token needs one at least.",
    )
    expires_on = forms.DateField(
        label="Last day",
        required=False,
        validators=[MaxValueValidator(date(9998, 12, 31))],
        widget=forms.DateInput(attrs={"type": "date"}),
        help_text="The key ends with this day, in UTC. Empty: it stays until it is revoked.",
    )
    rate_limit = _rate_limit()

    def asked(self) -> dict[str, Any]:
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
        label="Hours of overlap",
        initial=OVERLAP_HOURS,
        help_text="How long what signs now signs as well, 0 to 720: as long as the receiver needs to take the new "
        "secret. After a leak, 0.",
    )


class RateLimitForm(ConsoleForm):
    rate_limit = _rate_limit()


class RevokeForm(ConsoleForm):
    sure = forms.BooleanField(
        label="Yes, end this key",
        error_messages={"required": "Tick this box to revoke the key."},
        help_text="The next call with it is refused. It cannot be undone.",
    )
