"""The forms of the settings that change a chatbot. The operations validate what they submit."""

from collections.abc import Sequence
from typing import Any, ClassVar, Self

from django import forms
from django.contrib.auth.models import User
from django.db.models import Q
from django.http import QueryDict

from chatbots.models import CCPA, GDPR, MOST_DAYS_OF_DEADLINE, Chatbot, Membership, Variable
from chatbots.operations.chatbots import NewVariable
from compliance.work.lookups import overview_of
from console.common.forms import AS_TYPED, ConsoleForm

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
        widget=forms.TextInput(attrs=AS_TYPED),
    )
    name = forms.CharField(max_length=200, help_text="Shown in the console.")
    timezone = timezone_field()
    variable = forms.CharField(
        label="Unique Chatter Identifier",
        required=False,
        max_length=128,
        help_text="The variable that identifies a chatter, for example member_id. You can choose it later, but "
        "conversations that start before cannot be found by chatter.",
        widget=forms.TextInput(attrs=AS_TYPED),
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


# The choice of a deadline that is a number of days.
DAYS = "days"


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
        help_text="A deletion of more conversations than this is put on hold until it is approved. The value "
        "is often a placeholder or shared by many people.",
    )
    four_eyes = forms.BooleanField(
        label="Four eyes",
        required=False,
        help_text="Each deletion or redaction, and the first run of a retention period, needs the approval of a "
        "person who did not file it. All API keys count as one person.",
    )
    deadline = forms.ChoiceField(
        choices=[(GDPR, "One month (GDPR)"), (CCPA, "45 days (CCPA)"), (DAYS, "A number of days")],
        widget=forms.RadioSelect,
        help_text="By when a request must be answered, counted from the day when the person asked. It applies to "
        "requests that are filed from now on.",
    )
    deadline_days = forms.IntegerField(
        label="Days until the deadline",
        required=False,
        min_value=1,
        max_value=MOST_DAYS_OF_DEADLINE,
        help_text="For a deadline of a number of days.",
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

    @classmethod
    def submitted(cls, data: QueryDict, *, chatbot: Chatbot, **path: Any) -> Self:  # noqa: ARG003
        return cls(data, chatbot=chatbot)

    def __init__(self, *args: Any, chatbot: Chatbot, **kwargs: Any) -> None:
        initial = {name: getattr(chatbot, name, None) for name in self.base_fields}
        if chatbot.deadline not in {GDPR, CCPA}:
            initial |= {"deadline": DAYS, "deadline_days": chatbot.deadline}
        super().__init__(*args, initial=initial, **kwargs)
        for field in self.fields.values():
            field.show_hidden_initial = True

    def clean(self) -> dict[str, Any] | None:
        cleaned = super().clean()
        if self.cleaned_data.get("deadline") == DAYS and self.cleaned_data.get("deadline_days", 0) is None:
            self.add_error("deadline_days", "Enter the number of days.")
        return cleaned

    def changes(self) -> dict[str, Any]:
        """Return the changed settings. An unchanged callback URL is not resolved again."""
        changes = {name: self.cleaned_data[name] for name in self.changed_data}
        if {"deadline", "deadline_days"} & changes.keys():
            rule, days = self.cleaned_data["deadline"], self.cleaned_data["deadline_days"]
            changes.pop("deadline_days", None)
            changes["deadline"] = str(days) if rule == DAYS else rule
        return changes


class AssuranceForm(ConsoleForm):
    export_assurance = forms.ChoiceField(
        label="Conversations in exports", choices=Chatbot.ExportAssurance.choices, widget=forms.RadioSelect
    )


class CsvDialectForm(ConsoleForm):
    csv_dialect = forms.ChoiceField(
        label="CSV dialect of exports",
        choices=Chatbot.CsvDialect.choices,
        widget=forms.RadioSelect,
        help_text="Preset of new exports; each can have another. Daily extracts always have the standard one.",
    )


def variables_of(chatbot: Chatbot) -> list[Variable]:
    """Return a chatbot's variables: the current UCI, former ones, then the others by name."""
    return list(Variable.objects.filter(chatbot=chatbot).order_by("-is_uci", "-was_uci", "name"))


class UciForm(ConsoleForm):
    """The variable that identifies a chatter. Changing it requires a confirmation."""

    uci = forms.ChoiceField(label="Unique Chatter Identifier", widget=forms.RadioSelect)
    understood = forms.BooleanField(
        label="I understand that the new UCI applies to new conversations only",
        required=False,
        help_text="Existing conversations can only be found by the former UCI.",
    )

    @classmethod
    def submitted(cls, data: QueryDict, *, chatbot: Chatbot, **path: Any) -> Self:  # noqa: ARG003
        return cls(data, variables=variables_of(chatbot))

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
        widget=forms.TextInput(attrs=AS_TYPED),
    )

    def variable(self) -> NewVariable:
        return NewVariable(self.cleaned_data["category"], self.cleaned_data["name"])


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

    @classmethod
    def submitted(cls, data: QueryDict, *, chatbot: Chatbot, **path: Any) -> Self:  # noqa: ARG003
        return cls(data, chatbot=chatbot)

    def __init__(self, *args: Any, chatbot: Chatbot, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        field: Any = self.fields["user"]
        # Members who are no longer staff are included, so that their role can be removed.
        member = Q(pk__in=Membership.objects.filter(chatbot=chatbot).values("user"))
        field.queryset = User.objects.filter(member | Q(is_staff=True, is_active=True)).order_by("username")

    def role_or_none(self) -> Membership.Role | None:
        role = self.cleaned_data["role"]
        return Membership.Role(role) if role else None


_MOST_CHARACTERS = 10_000


class TrialForm(ConsoleForm):
    """A value for each variable that is sent. Fields have numbers: names of variables are any text."""

    @classmethod
    def submitted(cls, data: QueryDict, *, chatbot: Chatbot, **path: Any) -> Self:  # noqa: ARG003
        resolver = overview_of(chatbot)
        return cls(data, sent=resolver.sent if resolver else [])

    def __init__(self, *args: Any, sent: Sequence[str], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._sent = list(sent)
        for number, name in enumerate(sent):
            self.fields[f"value_{number}"] = forms.CharField(
                label=name, max_length=_MOST_CHARACTERS, strip=False, widget=forms.TextInput(attrs=AS_TYPED)
            )

    def values(self) -> dict[str, str]:
        """Return the values by the variables' names."""
        return {name: self.cleaned_data[f"value_{number}"] for number, name in enumerate(self._sent)}
