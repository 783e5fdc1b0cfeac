"""Clients' credentials for the hosted bucket, on the settings page: their rows and forms."""

from collections.abc import Iterator
from dataclasses import dataclass

from django import forms
from django.conf import settings
from django.db.models import F

from chatbots.models import BucketCredential, Chatbot
from chatbots.operations.credentials import can_issue
from console.changelog import names_of
from console.settings.forms import ConsoleForm

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
        widget=forms.TextInput(attrs={"autocomplete": "off", "autocapitalize": "none", "spellcheck": "false"}),
    )
    label = _label()


class RevokeCredentialForm(ConsoleForm):
    """With `by_hand` the user must have been removed in the storage already."""

    sure = forms.BooleanField(error_messages={"required": "Select this to revoke the credentials."})

    def __init__(self, *args: object, by_hand: bool, **kwargs: object) -> None:
        super().__init__(*args, **kwargs)
        sure = self.fields["sure"]
        sure.label = "Yes, they are removed in the storage" if by_hand else "Yes, revoke these credentials"
        sure.help_text = (
            "The service cannot remove them there. This only records that they are revoked."
            if by_hand
            else "The storage refuses them immediately. This cannot be undone."
        )


@dataclass(frozen=True)
class CredentialRow:
    """Credentials, who created them, and the form that revokes them; `is_refused` if it has errors."""

    credential: BucketCredential
    creator: str
    by_hand: bool
    revoke: ConsoleForm
    is_refused: bool


def may_issue() -> bool:
    """Return whether the console issues credentials, and revokes those that it issued."""
    return settings.IAM_CONSOLE and can_issue()


def by_hand(credential: BucketCredential) -> bool:
    """Return whether a person has to remove these credentials in the storage."""
    return credential.origin == BucketCredential.Origin.BY_HAND or not may_issue()


def revoke_form(credential: BucketCredential, data: object = None) -> RevokeCredentialForm:
    return RevokeCredentialForm(data, by_hand=by_hand(credential), auto_id=f"revoke-{credential.pk}-%s")


def credential_rows(chatbot: Chatbot, refused: ConsoleForm | None, refused_id: str) -> dict[str, list[CredentialRow]]:
    """Return the credentials in use and those that ended, newest first. `refused` is a form with errors."""
    newest_first = [F("revoked_at").desc(nulls_first=True), F("created_at").desc(), F("pk").desc()]
    found = list(BucketCredential.objects.filter(chatbot=chatbot).order_by(*newest_first)[:_MOST_SHOWN])
    names = names_of(one.created_by for one in found)

    def rows(credentials: list[BucketCredential]) -> Iterator[CredentialRow]:
        for one in credentials:
            is_refused = refused is not None and refused_id == str(one.pk)
            form = refused if refused is not None and is_refused else revoke_form(one)
            yield CredentialRow(one, names[one.created_by], by_hand(one), form, is_refused)

    return {
        "present": list(rows([one for one in found if one.revoked_at is None])),
        "ended": list(rows([one for one in found if one.revoked_at is not None])),
    }
