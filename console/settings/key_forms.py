"""The forms of API keys, identity keys and callback secrets. A stored secret is never shown."""

from datetime import UTC, date, datetime, timedelta
from typing import Any, ClassVar, Self

from django import forms
from django.core.validators import MaxValueValidator
from django.http import QueryDict

from chatbots.models import ApiKey, Chatbot
from chatbots.operations.keys import OVERLAP_HOURS
from common.times import midnight
from console.common.forms import ConsoleForm

Algorithm = ApiKey.Algorithm


def _rate_limit() -> forms.IntegerField:
    return forms.IntegerField(
        label="Rate limit (calls per minute)",
        required=False,
        help_text="1 to 1,000,000. Leave empty for the default of the service.",
    )


def _last_day() -> forms.DateField:
    """Return a field for the last day of a key; `_end_of_day` converts it."""
    return forms.DateField(
        label="Expires after",
        required=False,
        validators=[MaxValueValidator(date(9998, 12, 31))],
        widget=forms.DateInput(attrs={"type": "date"}),
        help_text="Last day of the key in UTC. Leave empty for a key that does not expire.",
    )


def _end_of_day(last: date | None) -> datetime | None:
    return midnight(last + timedelta(days=1), UTC) if last else None


class NewApiKeyForm(ConsoleForm):
    names: ClassVar = {"expires_at": "expires_on"}

    type = forms.ChoiceField(
        choices=[(one.value, one.label) for one in (ApiKey.Type.SIGNING, ApiKey.Type.TOKEN)],
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
    expires_on = _last_day()
    rate_limit = _rate_limit()

    def arguments(self) -> dict[str, Any]:
        """Return the arguments of `operations.create_api_key`."""
        data = self.cleaned_data
        return {
            "type": ApiKey.Type(data["type"]),
            "label": data["label"],
            "scopes": data["scopes"],
            "rate_limit": data["rate_limit"],
            "expires_at": _end_of_day(data["expires_on"]),
        }


class CallbackSecretForm(ConsoleForm):
    overlap_hours = forms.IntegerField(
        label="Overlap in hours",
        initial=OVERLAP_HOURS,
        help_text="How long callbacks are also signed with the old secret, 0 to 720. Allow enough time to update the "
        "receiver; use 0 after a leak.",
    )


class _OfKey(ConsoleForm):
    """A form about one key."""

    name: ClassVar[str]

    @classmethod
    def submitted(cls, data: QueryDict | None, *, chatbot: Chatbot, **path: Any) -> Self:  # noqa: ARG003
        return cls(data, key=path["prefix"])

    def __init__(self, *args: Any, key: str, **kwargs: Any) -> None:
        super().__init__(*args, auto_id=f"{self.name}-{key}-%s", **kwargs)


class RateLimitForm(_OfKey):
    name = "limit"

    rate_limit = _rate_limit()


class RevokeForm(_OfKey):
    name = "revoke"

    sure = forms.BooleanField(
        label="Yes, revoke this key",
        error_messages={"required": "Select this to revoke the key."},
        help_text="Calls and identity tokens with it are refused immediately. This cannot be undone.",
    )


class _PublicKeyInput(forms.Textarea):
    """Never shows the submitted text, which may be a private key."""

    def format_value(self, value: Any) -> None:  # noqa: ARG002  Django's signature
        return None


class NewIdentityKeyForm(ConsoleForm):
    names: ClassVar = {"expires_at": "expires_on"}

    label = forms.CharField(max_length=100, help_text="The system that signs the tokens, for example Web shop.")
    algorithm = forms.ChoiceField(
        choices=Algorithm.choices,
        initial=Algorithm.HS256.value,
        widget=forms.RadioSelect,
        help_text="The only algorithm that tokens with this key can have. For HS256 the secret is shown once, on the "
        "next page.",
    )
    public_key = forms.CharField(
        label="Public key",
        required=False,
        widget=_PublicKeyInput(attrs={"autocomplete": "off", "spellcheck": "false", "rows": 6}),
        help_text="For ES256 or RS256: one public key in PEM, from -----BEGIN PUBLIC KEY----- on. Never paste a "
        "private key.",
    )
    expires_on = _last_day()

    def arguments(self) -> dict[str, Any]:
        """Return the arguments of `operations.create_identity_key`."""
        data = self.cleaned_data
        return {
            "label": data["label"],
            "algorithm": Algorithm(data["algorithm"]),
            "public_key": data["public_key"] or None,
            "expires_at": _end_of_day(data["expires_on"]),
        }
