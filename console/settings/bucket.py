"""The bucket in the settings: its form, and clients' credentials for the hosted bucket."""

from typing import Any
from uuid import UUID

from django import forms
from django.conf import settings
from django.core.exceptions import ValidationError
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404
from django.views.decorators.debug import sensitive_variables

from chatbots.buckets.locations import hosted_place
from chatbots.models import Bucket, BucketCredential, Chatbot
from chatbots.operations import credentials
from chatbots.operations.buckets import CLIENT_SETTINGS, ClientBucket, set_bucket
from compliance.work import bucket_checks
from console.common.forms import AS_TYPED
from console.common.scope import DECIDE, actor_of
from console.settings.forms import SettingForm

_CHANGED = "Another user has changed the bucket since you loaded this page. Reload it and check the settings again."


def _text(label: str, help_text: str, most: int) -> forms.CharField:
    widget = forms.TextInput(attrs=AS_TYPED)
    return forms.CharField(label=label, help_text=help_text, max_length=most, required=False, widget=widget)


class BucketForm(SettingForm):
    section = form_name = "bucket"

    hosting = forms.ChoiceField(
        label="Location", choices=Bucket.Hosting.choices, initial="hosted", widget=forms.RadioSelect
    )
    bucket = _text("Bucket", "The bucket name.", 63)
    region = _text("Region", "For example eu-west-3.", 64)
    # Django removes fields from the class, so the form keeps its own `prefix`.
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

    def __init__(self, *args: Any, stored: Bucket | None = None, **kwargs: Any) -> None:
        super().__init__(*args, initial=_settings_of(stored), **kwargs)
        for name in self.initial:
            self.fields[name].show_hidden_initial = True

    def save(self, request: HttpRequest) -> str:
        stored = Bucket.objects.filter(chatbot=self.chatbot).first()
        for name, value in _settings_of(stored).items():
            if self.data.get(self.add_initial_prefix(name), value) != value:
                raise ValidationError(_CHANGED)
        data = self.cleaned_data
        client = None
        if data["hosting"] == Bucket.Hosting.CLIENT:
            client = ClientBucket(**{name: data[name] for name in CLIENT_SETTINGS}, secret=data["secret"] or None)
        set_bucket(chatbot=self.chatbot, client=client, actor=actor_of(request))
        return "Bucket saved. Check access to verify that it can be used."


def _settings_of(stored: Bucket | None) -> dict[str, str]:
    # The defaults of an unsaved bucket if there is none.
    return {name: str(getattr(stored or Bucket(), name)) for name in ("hosting", *CLIENT_SETTINGS)}


class CheckForm(SettingForm):
    section, form_name = "bucket", "check"
    roles = DECIDE
    asks_password = False

    def save(self, request: HttpRequest) -> str:  # noqa: ARG002
        bucket_checks.enqueue(chatbot=self.chatbot)
        return ""


def _label() -> forms.CharField:
    return forms.CharField(max_length=100, help_text="Who uses the credentials, for example Data team.")


class NewCredentialForm(SettingForm):
    section, form_name = "bucket", "credentials"

    label = _label()

    @sensitive_variables("new")
    def save(self, request: HttpRequest) -> HttpResponse:
        """Return the page with the secret, once, as a new API key does. This calls IAM for up to a minute."""
        if not may_issue():
            raise ValidationError("The console does not issue credentials here. Use issue_bucket_credentials.")
        label = self.cleaned_data["label"]
        new = credentials.issue_bucket_credential(chatbot=self.chatbot, label=label, actor=actor_of(request))
        place = hosted_place(self.chatbot)
        return self.show(request, "new_credentials.html", "New credentials", new=new, place=place)


class RecordCredentialForm(SettingForm):
    section, form_name = "bucket", "record"

    access_key_id = forms.CharField(
        label="Access key ID",
        max_length=128,
        help_text="The key of the user that you created in the storage. Its secret is not needed.",
        widget=forms.TextInput(attrs=AS_TYPED),
    )
    label = _label()

    def save(self, request: HttpRequest) -> str:
        credentials.record_bucket_credential(chatbot=self.chatbot, actor=actor_of(request), **self.cleaned_data)
        return "Credentials recorded."


class RevokeCredentialForm(SettingForm):
    """With `by_hand` the user must have been removed in the storage already."""

    section, form_name = "bucket", "revoke_credentials"

    sure = forms.BooleanField(error_messages={"required": "Select this to revoke the credentials."})

    def __init__(
        self, *args: Any, chatbot: Chatbot, credential: UUID, stored: BucketCredential | None = None, **kwargs: Any
    ) -> None:
        """Raises Http404 if the chatbot has no such credentials."""
        stored = stored or get_object_or_404(BucketCredential, chatbot=chatbot, pk=credential)
        super().__init__(*args, chatbot=chatbot, auto_id=f"revoke-{credential}-%s", **kwargs)
        self.path = {"credential": credential}
        self.by_hand = stored.origin == BucketCredential.Origin.BY_HAND or not may_issue()
        sure = self.fields["sure"]
        sure.label = "Yes, they are removed in the storage" if self.by_hand else "Yes, revoke these credentials"
        sure.help_text = (
            "The service cannot remove them there. This only records that they are revoked."
            if self.by_hand
            else "The storage refuses them immediately. This cannot be undone."
        )

    def save(self, request: HttpRequest) -> str:
        credentials.revoke_bucket_credential(
            chatbot=self.chatbot,
            name=str(self.path["credential"]),
            removed_by_hand=self.by_hand,
            actor=actor_of(request),
        )
        return "Credentials revoked."


def may_issue() -> bool:
    """Return whether the console issues credentials, and revokes those that it issued."""
    return settings.IAM_CONSOLE and credentials.can_issue()
