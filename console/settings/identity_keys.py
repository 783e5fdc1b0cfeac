"""The form of the settings page that creates an identity key."""

from typing import Any, ClassVar

from django import forms

from chatbots.models import ApiKey
from console.settings.forms import ConsoleForm, end_of_day, last_day

Algorithm = ApiKey.Algorithm


class _PublicKeyInput(forms.Textarea):
    """Shows nothing of what was submitted: it may have been a private key."""

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
    expires_on = last_day()

    def arguments(self) -> dict[str, Any]:
        """Return the arguments of `operations.create_identity_key`."""
        data = self.cleaned_data
        return {
            "label": data["label"],
            "algorithm": Algorithm(data["algorithm"]),
            "public_key": data["public_key"] or None,
            "expires_at": end_of_day(data["expires_on"]),
        }
