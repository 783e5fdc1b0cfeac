"""The forms of API keys, identity keys and callback secrets. A stored secret is never shown."""

from datetime import UTC, date, datetime, timedelta
from typing import Any, ClassVar

from django import forms
from django.contrib import messages
from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator
from django.http import HttpRequest, HttpResponse
from django.views.decorators.debug import sensitive_variables

from chatbots.models import ApiKey
from chatbots.operations import identity_keys, keys
from common.times import midnight
from compliance.callbacks import trial
from compliance.errors import Refused
from console.common.scope import DECIDE, actor_of
from console.settings.forms import SettingForm

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


class NewApiKeyForm(SettingForm):
    section = form_name = "keys"
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

    @sensitive_variables("created")
    def save(self, request: HttpRequest) -> HttpResponse:
        """Return the page with the secret, once. The response must not be stored."""
        data = self.cleaned_data
        created = keys.create_api_key(
            chatbot=self.chatbot,
            type=ApiKey.Type(data["type"]),
            label=data["label"],
            scopes=data["scopes"],
            rate_limit=data["rate_limit"],
            expires_at=_end_of_day(data["expires_on"]),
            actor=actor_of(request),
        )
        return self.show(request, "new_key.html", "New API key", created=created)


class CallbackSecretForm(SettingForm):
    section = form_name = "callbacks"

    overlap_hours = forms.IntegerField(
        label="Overlap in hours",
        initial=keys.OVERLAP_HOURS,
        help_text="How long callbacks are also signed with the old secret, 0 to 720. Allow enough time to update the "
        "receiver; use 0 after a leak.",
    )

    @sensitive_variables("created")
    def save(self, request: HttpRequest) -> HttpResponse:
        """Return the page with the secret, once, as a new API key does."""
        hours = self.cleaned_data["overlap_hours"]
        created = keys.create_callback_secret(chatbot=self.chatbot, overlap_hours=hours, actor=actor_of(request))
        return self.show(request, "new_callback_secret.html", "New callback secret", created=created)


class TestCallbackForm(SettingForm):
    section, form_name = "callbacks", "test_callback"
    roles = DECIDE
    asks_password = False

    def save(self, request: HttpRequest) -> str:
        """Call the chatbot's callback URL for up to five seconds, and show the outcome."""
        try:
            sent = trial.send(chatbot=self.chatbot, actor=actor_of(request))
        except Refused as refused:
            raise ValidationError(refused.detail) from None
        if sent.error is None:
            return f"Test callback delivered: the receiver answered {sent.status} after {sent.milliseconds:,} ms."
        reason = f"The receiver answered {sent.status}" if sent.status else sent.error.label
        messages.warning(request, f"Test callback not delivered. {reason}.")
        return ""


class _OfKey(SettingForm):
    section = "keys"

    def __init__(self, *args: Any, prefix: str, **kwargs: Any) -> None:
        super().__init__(*args, auto_id=f"{self.form_name}-{prefix}-%s", **kwargs)
        self.key = prefix
        self.path = {"prefix": prefix}


class RateLimitForm(_OfKey):
    form_name = "limit"

    rate_limit = _rate_limit()

    def save(self, request: HttpRequest) -> str:
        limit = self.cleaned_data["rate_limit"]
        keys.change_api_key_rate_limit(
            chatbot=self.chatbot, prefix=self.key, rate_limit=limit, actor=actor_of(request)
        )
        return f"Rate limit of key {self.key} saved."


class RevokeForm(_OfKey):
    form_name = "revoke"

    sure = forms.BooleanField(
        label="Yes, revoke this key",
        error_messages={"required": "Select this to revoke the key."},
        help_text="Calls and identity tokens with it are refused immediately. This cannot be undone.",
    )

    def save(self, request: HttpRequest) -> str:
        keys.revoke_api_key(chatbot=self.chatbot, prefix=self.key, actor=actor_of(request))
        return f"Key {self.key} revoked."


class _PublicKeyInput(forms.Textarea):
    """Never shows the submitted text, which may be a private key."""

    def format_value(self, value: Any) -> None:  # noqa: ARG002  Django's signature
        return None


class NewIdentityKeyForm(SettingForm):
    section, form_name = "keys", "identity_keys"
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

    @sensitive_variables("created")
    def save(self, request: HttpRequest) -> HttpResponse:
        """Return the page with the claims that tokens need and, once, a secret of ours, as a new API key does."""
        data = self.cleaned_data
        created = identity_keys.create_identity_key(
            chatbot=self.chatbot,
            label=data["label"],
            algorithm=Algorithm(data["algorithm"]),
            public_key=data["public_key"] or None,
            expires_at=_end_of_day(data["expires_on"]),
            actor=actor_of(request),
        )
        return self.show(request, "new_identity_key.html", "New identity key", created=created)
