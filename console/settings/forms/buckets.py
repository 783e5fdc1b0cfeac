"""The form of a chatbot's bucket. A secret goes in and never comes out again."""

from typing import Any

from django import forms
from django.core.exceptions import ValidationError

from chatbots.models import Bucket
from chatbots.operations.buckets import ClientBucket
from console.settings.forms.base import ConsoleForm

_CHANGED = (
    "Somebody else has changed the bucket since you were shown it. Load the settings anew, and look at it again."
)

_OF_CLIENT = ("bucket", "region", "prefix", "endpoint", "sse", "kms_key_id", "access_key_id", "role_arn")


def _text(label: str, help_text: str, most: int) -> forms.CharField:
    widget = forms.TextInput(attrs={"autocomplete": "off", "autocapitalize": "none", "spellcheck": "false"})
    return forms.CharField(label=label, help_text=help_text, max_length=most, required=False, widget=widget)


class BucketForm(ConsoleForm):
    hosting = forms.ChoiceField(
        label="Where files go", choices=Bucket.Hosting.choices, initial="hosted", widget=forms.RadioSelect
    )
    bucket = _text("Bucket", "The bucket's name.", 63)
    region = _text("Region", "Such as eu-west-3.", 64)
    # A field is no attribute of the class once it is made, so Django's own `prefix` stays.
    prefix = _text(  # type: ignore[assignment]
        "Prefix", "The folder for all files, such as exports/acme. Empty: the bucket's top.", 200
    )
    endpoint = _text("Endpoint", "Of a store that is not AWS. Empty for AWS.", 200)
    sse = forms.ChoiceField(
        label="Encryption (SSE)",
        choices=Bucket.Sse.choices,
        required=False,
        help_text="Server-side encryption to ask for with each file.",
    )
    kms_key_id = _text("KMS key", "With a KMS key: its id, alias or ARN. Empty: the store's own.", 2048)
    access_key_id = _text("Access key id", "An access key of the client's, or else a role below.", 128)
    secret = forms.CharField(
        label="Secret of the access key",
        required=False,
        strip=False,
        widget=forms.PasswordInput(render_value=False, attrs={"autocomplete": "new-password"}),
        help_text="Kept encrypted and never shown again. Empty: the stored one of this access key stays.",
    )
    role_arn = _text("Role ARN", "Instead of an access key: a role that the client lets us assume.", 2048)

    def __init__(self, *args: Any, stored: Bucket | None, **kwargs: Any) -> None:
        super().__init__(*args, initial=_settings_of(stored), **kwargs)
        for name in self.initial:
            self.fields[name].show_hidden_initial = True

    def require_as_shown(self, stored: Bucket | None) -> None:
        """Raise ValidationError if the bucket is another by now than the page has shown, which it sends back."""
        for name, value in _settings_of(stored).items():
            if self.data.get(self.add_initial_prefix(name), value) != value:
                raise ValidationError(_CHANGED)

    def client(self) -> ClientBucket | None:
        """Return what was filled in of a client's bucket, or None for the hosted one, which has no settings."""
        data = self.cleaned_data
        if data["hosting"] != Bucket.Hosting.CLIENT:
            return None
        return ClientBucket(**{name: data[name] for name in _OF_CLIENT}, secret=data["secret"] or None)


def _settings_of(stored: Bucket | None) -> dict[str, str]:
    # Of a chatbot without one as of an unsaved one: hosted, and nothing filled in.
    return {name: str(getattr(stored or Bucket(), name)) for name in ("hosting", *_OF_CLIENT)}
