"""The bucket in the settings: its form, and clients' credentials for the hosted bucket."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Self

from django import forms
from django.conf import settings
from django.core.exceptions import ValidationError
from django.db.models import F
from django.http import QueryDict
from django.shortcuts import get_object_or_404

from chatbots.models import Bucket, BucketCredential, Chatbot
from chatbots.operations.buckets import ClientBucket
from chatbots.operations.credentials import can_issue
from console.changelog import names_of
from console.common.forms import AS_TYPED, ConsoleForm

_CHANGED = "Another user has changed the bucket since you loaded this page. Reload it and check the settings again."

_OF_CLIENT = ("bucket", "region", "prefix", "endpoint", "sse", "kms_key_id", "access_key_id", "role_arn")


def _text(label: str, help_text: str, most: int) -> forms.CharField:
    widget = forms.TextInput(attrs=AS_TYPED)
    return forms.CharField(label=label, help_text=help_text, max_length=most, required=False, widget=widget)


class BucketForm(ConsoleForm):
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

    @classmethod
    def submitted(cls, data: QueryDict, *, chatbot: Chatbot, **path: Any) -> Self:  # noqa: ARG003
        return cls(data, stored=None)

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


# The change log has all of them.
_MOST_SHOWN = 20


def _label() -> forms.CharField:
    return forms.CharField(max_length=100, help_text="Who uses the credentials, for example Data team.")


class NewCredentialForm(ConsoleForm):
    label = _label()


class RecordCredentialForm(ConsoleForm):
    access_key_id = forms.CharField(
        label="Access key ID",
        max_length=128,
        help_text="The key of the user that you created in the storage. Its secret is not needed.",
        widget=forms.TextInput(attrs=AS_TYPED),
    )
    label = _label()


class RevokeCredentialForm(ConsoleForm):
    """With `by_hand` the user must have been removed in the storage already."""

    sure = forms.BooleanField(error_messages={"required": "Select this to revoke the credentials."})

    @classmethod
    def submitted(cls, data: QueryDict, *, chatbot: Chatbot, **path: Any) -> Self:
        """Raises Http404 if the chatbot has no such credentials."""
        return cls(data, credential=get_object_or_404(BucketCredential, chatbot=chatbot, pk=path["credential"]))

    def __init__(self, *args: Any, credential: BucketCredential, **kwargs: Any) -> None:
        super().__init__(*args, auto_id=f"revoke-{credential.pk}-%s", **kwargs)
        self.by_hand = credential.origin == BucketCredential.Origin.BY_HAND or not may_issue()
        sure = self.fields["sure"]
        sure.label = "Yes, they are removed in the storage" if self.by_hand else "Yes, revoke these credentials"
        sure.help_text = (
            "The service cannot remove them there. This only records that they are revoked."
            if self.by_hand
            else "The storage refuses them immediately. This cannot be undone."
        )


@dataclass(frozen=True)
class CredentialRow:
    """Credentials, who created them, and the form that revokes them; `is_refused` if it has errors."""

    credential: BucketCredential
    creator: str
    revoke: ConsoleForm
    is_refused: bool


def may_issue() -> bool:
    """Return whether the console issues credentials, and revokes those that it issued."""
    return settings.IAM_CONSOLE and can_issue()


def credential_rows(chatbot: Chatbot, refused: ConsoleForm | None, refused_id: str) -> dict[str, list[CredentialRow]]:
    """Return the credentials in use and those that ended, newest first. `refused` is a form with errors."""
    newest_first = [F("revoked_at").desc(nulls_first=True), F("created_at").desc(), F("pk").desc()]
    found = list(BucketCredential.objects.filter(chatbot=chatbot).order_by(*newest_first)[:_MOST_SHOWN])
    names = names_of(one.created_by for one in found)

    def rows(credentials: list[BucketCredential]) -> Iterator[CredentialRow]:
        for one in credentials:
            is_refused = refused is not None and refused_id == str(one.pk)
            form = refused if refused is not None and is_refused else RevokeCredentialForm(credential=one)
            yield CredentialRow(one, names[one.created_by], form, is_refused)

    return {
        "present": list(rows([one for one in found if one.revoked_at is None])),
        "ended": list(rows([one for one in found if one.revoked_at is not None])),
    }
