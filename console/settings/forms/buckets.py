"""The form of a chatbot's bucket. A stored secret is never shown."""

from typing import Any

from django import forms
from django.core.exceptions import ValidationError

from chatbots.models import Bucket
from chatbots.operations.buckets import ClientBucket
from console.settings.forms.base import ConsoleForm

_CHANGED = "Someone else has changed the bucket since you loaded this page. Reload it and check the settings again."

_OF_CLIENT = ("bucket", "region", "prefix", "endpoint", "sse", "kms_key_id", "access_key_id", "role_arn")


def _text(label: str, help_text: str, most: int) -> forms.CharField:
    widget = forms.TextInput(attrs={"autocomplete": "off", "autocapitalize": "none", "spellcheck": "false"})
    return forms.CharField(label=label, help_text=help_text, max_length=most, required=False, widget=widget)


class BucketForm(ConsoleForm):
    hosting = forms.ChoiceField(
        label="Location", choices=Bucket.Hosting.choices, initial="hosted", widget=forms.RadioSelect
    )
    bucket = _text("Bucket", "The bucket name.", 63)
    region = _text("Region", "For example eu-west-3.", 64)
    # A field is no attribute of the class once it is made, so Django's own `prefix` stays.
    prefix = _text(  # type: ignore[assignment]
        "Prefix", "Folder for all files, for example exports/acme. Leave empty for the top level.", 200
    )
    endpoint = _text("Endpoint", "Only for storage other than AWS.", 200)
    sse = forms.ChoiceField(
        label="Encryption (SSE)",
        choices=Bucket.Sse.choices,
        required=False,
        help_text="Server-side encryption for each file.",
    )
    kms_key_id = _text("KMS key", "ID, alias or ARN of a KMS key. Leave empty for the storage's default key.", 2048)
    access_key_id = _text("Access key ID", "An access key of the client. Or use a role below.", 128)
    secret = forms.CharField(
        label="Secret access key",
        required=False,
        strip=False,
        widget=forms.PasswordInput(render_value=False, attrs={"autocomplete": "new-password"}),
        help_text="Stored encrypted and never shown again. Leave empty to keep the stored secret of this access key.",
    )
    role_arn = _text("Role ARN", "Instead of an access key: a role of the client that the service can assume.", 2048)

    def __init__(self, *args: Any, stored: Bucket | None, **kwargs: Any) -> None:
        super().__init__(*args, initial=_settings_of(stored), **kwargs)
        for name in self.initial:
            self.fields[name].show_hidden_initial = True

    def require_as_shown(self, stored: Bucket | None) -> None:
        """Raise ValidationError if the bucket has changed since the page was loaded."""
        for name, value in _settings_of(stored).items():
            if self.data.get(self.add_initial_prefix(name), value) != value:
                raise ValidationError(_CHANGED)

    def client(self) -> ClientBucket | None:
        """Return the settings of a client's bucket, or None for the hosted one."""
        data = self.cleaned_data
        if data["hosting"] != Bucket.Hosting.CLIENT:
            return None
        return ClientBucket(**{name: data[name] for name in _OF_CLIENT}, secret=data["secret"] or None)


def _settings_of(stored: Bucket | None) -> dict[str, str]:
    # The defaults of an unsaved bucket if there is none.
    return {name: str(getattr(stored or Bucket(), name)) for name in ("hosting", *_OF_CLIENT)}
