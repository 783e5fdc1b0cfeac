"""The forms of the settings page. The operations validate what they submit; a stored secret is never shown."""

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any, ClassVar

from django import forms
from django.contrib.auth.models import User
from django.core.exceptions import NON_FIELD_ERRORS, ValidationError
from django.core.validators import MaxValueValidator
from django.db.models import Q
from django.forms.utils import ErrorList

from chatbots.models import ApiKey, Bucket, Chatbot, Membership, Variable
from chatbots.operations.buckets import ClientBucket
from chatbots.operations.chatbots import NewVariable
from chatbots.operations.keys import OVERLAP_HOURS
from common.times import midnight


class Errors(ErrorList):
    """The errors of a field, with the theme's class."""

    def __init__(self, initlist: Any = None, error_class: str | None = None, *args: Any, **kwargs: Any) -> None:
        super().__init__(initlist, f"errors {error_class or ''}".strip(), *args, **kwargs)


class ConsoleForm(forms.Form):
    """A form that an operation validates: call it if the form is valid, and pass its errors to `refuse`."""

    # The operation's name of a field -> the form's, where they differ.
    names: ClassVar[Mapping[str, str]] = {}

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        # There are several forms on a page, so each needs ids of its own.
        kwargs.setdefault("auto_id", f"{type(self).__name__.removesuffix('Form').lower()}_%s")
        kwargs.setdefault("label_suffix", "")
        kwargs.setdefault("error_class", Errors)
        super().__init__(*args, **kwargs)

    def refuse(self, error: ValidationError) -> None:
        """Show the errors of an operation at their fields."""
        errors = error.message_dict if hasattr(error, "error_dict") else {NON_FIELD_ERRORS: error.messages}
        for name, messages in errors.items():
            field = self.names.get(name, name)
            for message in messages:
                self.add_error(field if field in self.fields else None, message)

    @property
    def faults(self) -> list[tuple[str, str, str]]:
        """Return (id of the input, label, message) of each error; the id may be empty."""
        return [
            (self[name].id_for_label or self[name].auto_id, str(self[name].label), str(message))
            if name in self.fields
            else ("", "", str(message))
            for name, messages in self.errors.items()
            for message in messages
        ]


# The id of the list in `console/timezones.html`.
TIMEZONES = "timezones"

Category = Variable.Category

# System variables come from the platform and cannot be created here.
CATEGORIES = [(Category.CUSTOM.value, "Custom"), (Category.USER_CHANNEL.value, "User channel")]


def timezone_field() -> forms.CharField:
    """Return a field that suggests time zones; the operation validates them."""
    return forms.CharField(
        label="Time zone",
        max_length=64,
        help_text="IANA name, for example Europe/Paris. Used for the days of extracts and times in the console.",
        widget=forms.TextInput(attrs={"list": TIMEZONES, "autocomplete": "off", "spellcheck": "false"}),
    )


class NewChatbotForm(ConsoleForm):
    names: ClassVar = {"variables": "variable", "uci": "variable"}

    slug = forms.SlugField(
        max_length=64,
        help_text="Identifies the chatbot in API URLs and in the bucket. Letters, digits, hyphens and "
        "underscores. It cannot be changed later.",
        widget=forms.TextInput(attrs={"autocomplete": "off", "autocapitalize": "none", "spellcheck": "false"}),
    )
    name = forms.CharField(max_length=200, help_text="Shown in the console.")
    timezone = timezone_field()
    variable = forms.CharField(
        label="Unique Chatter Identifier",
        required=False,
        max_length=128,
        help_text="The variable that identifies a chatter, for example member_id. You can choose it later, but "
        "conversations that start before cannot be found by chatter.",
        widget=forms.TextInput(attrs={"autocomplete": "off", "autocapitalize": "none", "spellcheck": "false"}),
    )
    category = forms.ChoiceField(
        label="Category",
        choices=CATEGORIES,
        initial=Category.CUSTOM.value,
        widget=forms.RadioSelect,
        help_text="Prefer a custom variable that is set by an API call. Values from the user channel can be forged.",
    )
    enable_compliance = forms.BooleanField(
        label="Turn on data compliance",
        required=False,
        initial=True,
        help_text="Allows filing deletions and exports.",
    )
    hosted_bucket = forms.BooleanField(
        label="Store exports in the operator's bucket",
        required=False,
        initial=True,
        help_text="You can set a client's own bucket later. Exports cannot be filed without a bucket.",
    )

    def arguments(self) -> dict[str, Any]:
        """Return the arguments of `operations.create_chatbot`."""
        data = self.cleaned_data
        arguments: dict[str, Any] = {
            name: data[name] for name in ("slug", "name", "timezone", "enable_compliance", "hosted_bucket")
        }
        if data["variable"]:
            arguments |= {"variables": [NewVariable(data["category"], data["variable"])], "uci": data["variable"]}
        return arguments


class SwitchForm(ConsoleForm):
    """A switch is a button, so that a stray click on a checkbox changes nothing."""

    on = forms.BooleanField(required=False, widget=forms.HiddenInput)


class RulesForm(ConsoleForm):
    """Settings for superusers, by their names in `operations.SETTINGS`.

    The page also submits the values that it showed, so that only changed settings are saved.
    """

    name = forms.CharField(max_length=200, help_text="Shown in the console.")
    timezone = timezone_field()
    max_conversations_per_deletion = forms.IntegerField(
        label="Guard",
        min_value=0,
        help_text="A deletion of more conversations than this is put on hold until someone approves it. The value "
        "is often a placeholder or shared by many people.",
    )
    four_eyes = forms.BooleanField(
        label="Four eyes",
        required=False,
        help_text="Each deletion or redaction, and the first run of a retention period, needs the approval of a "
        "person who did not file it. All API keys count as one person.",
    )
    grace_minutes = forms.IntegerField(
        label="Grace period in minutes",
        min_value=0,
        help_text="How long a deletion or export can be cancelled before it starts. At least 15 minutes for "
        "deletions filed in the console.",
    )
    require_action = forms.BooleanField(
        label="Require action",
        required=False,
        help_text='API requests must have "action" in their body, so that a captured call cannot be sent to the '
        "other path.",
    )
    token_names_conversation = forms.BooleanField(
        label="Identity tokens name their conversation",
        required=False,
        help_text='An identity token must have "conversation_id". One that leaked then fits no other conversation.',
    )
    callback_url = forms.CharField(
        label="Callback URL",
        required=False,
        max_length=500,
        help_text="Receives callbacks for requests without a callback URL of their own. Leave empty for none.",
        widget=forms.TextInput(attrs={"inputmode": "url", "autocomplete": "off", "spellcheck": "false"}),
    )

    def __init__(self, *args: Any, chatbot: Chatbot, **kwargs: Any) -> None:
        initial = {name: getattr(chatbot, name) for name in self.base_fields}
        super().__init__(*args, initial=initial, **kwargs)
        for field in self.fields.values():
            field.show_hidden_initial = True

    def changes(self) -> dict[str, Any]:
        """Return the changed settings. An unchanged callback URL is not resolved again."""
        return {name: self.cleaned_data[name] for name in self.changed_data}


class AssuranceForm(ConsoleForm):
    export_assurance = forms.ChoiceField(
        label="Conversations in exports", choices=Chatbot.ExportAssurance.choices, widget=forms.RadioSelect
    )


class UciForm(ConsoleForm):
    """The variable that identifies a chatter. Changing it requires a confirmation."""

    uci = forms.ChoiceField(label="Unique Chatter Identifier", widget=forms.RadioSelect)
    understood = forms.BooleanField(
        label="I understand that the new UCI applies to new conversations only",
        required=False,
        help_text="Existing conversations can only be found by the former UCI.",
    )

    def __init__(self, *args: Any, variables: Sequence[Variable], **kwargs: Any) -> None:
        self.current = next((one.name for one in variables if one.is_uci), None)
        super().__init__(*args, initial={"uci": self.current}, **kwargs)
        field: Any = self.fields["uci"]
        field.choices = [(one.name, one.name) for one in variables if one.category != Variable.Category.SYSTEM]

    def clean(self) -> dict[str, Any] | None:
        cleaned = super().clean()
        chosen = self.cleaned_data.get("uci")
        if chosen and self.current not in {None, chosen} and not self.cleaned_data.get("understood"):
            self.add_error("understood", "Select this to change the UCI.")
        return cleaned


class VariableForm(ConsoleForm):
    names: ClassVar = {"variables": "name"}

    category = forms.ChoiceField(choices=CATEGORIES, initial=CATEGORIES[0][0], widget=forms.RadioSelect)
    name = forms.CharField(
        strip=False,
        max_length=128,
        help_text="Custom: 1 to 128 printable characters, no leading or trailing spaces. User channel: lower-case "
        "letters, digits and underscores. Use the platform's exact name; it cannot be changed later.",
        widget=forms.TextInput(attrs={"autocomplete": "off", "autocapitalize": "none", "spellcheck": "false"}),
    )

    def variable(self) -> NewVariable:
        return NewVariable(self.cleaned_data["category"], self.cleaned_data["name"])


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
    # Django removes fields from the class, so its own `prefix` stays.
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


def _rate_limit() -> forms.IntegerField:
    return forms.IntegerField(
        label="Rate limit (calls per minute)",
        required=False,
        help_text="1 to 1,000,000. Leave empty for the default of the service.",
    )


def last_day() -> forms.DateField:
    """Return a field for the last day of a key; `end_of_day` converts it."""
    return forms.DateField(
        label="Expires after",
        required=False,
        validators=[MaxValueValidator(date(9998, 12, 31))],
        widget=forms.DateInput(attrs={"type": "date"}),
        help_text="Last day of the key in UTC. Leave empty for a key that does not expire.",
    )


def end_of_day(last: date | None) -> datetime | None:
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
    expires_on = last_day()
    rate_limit = _rate_limit()

    def arguments(self) -> dict[str, Any]:
        """Return the arguments of `operations.create_api_key`."""
        data = self.cleaned_data
        return {
            "type": ApiKey.Type(data["type"]),
            "label": data["label"],
            "scopes": data["scopes"],
            "rate_limit": data["rate_limit"],
            "expires_at": end_of_day(data["expires_on"]),
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
        help_text="Calls and identity tokens with it are refused immediately. This cannot be undone.",
    )


class MemberForm(ConsoleForm):
    user: Any = forms.ModelChoiceField(
        queryset=User.objects.none(),
        empty_label="Choose a user",
        help_text="Active staff. Superusers do not need a role.",
    )
    role = forms.ChoiceField(
        choices=[("", "None (remove)"), *Membership.Role.choices],
        required=False,
        initial=Membership.Role.VIEWER.value,
        help_text="Viewers read. Support also manages requests and downloads files. Officers also approve, reject, "
        "and change settings.",
    )

    def __init__(self, *args: Any, chatbot: Chatbot, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        field: Any = self.fields["user"]
        # Members who are no longer staff are included, so that their role can be removed.
        member = Q(pk__in=Membership.objects.filter(chatbot=chatbot).values("user"))
        field.queryset = User.objects.filter(member | Q(is_staff=True, is_active=True)).order_by("username")

    def role_or_none(self) -> Membership.Role | None:
        role = self.cleaned_data["role"]
        return Membership.Role(role) if role else None
