"""The forms of the settings that change a chatbot. The operations validate what they submit."""

from collections.abc import Collection, Mapping
from typing import Any, ClassVar

from django import forms
from django.contrib.auth.models import User
from django.db.models import Q
from django.http import HttpRequest, HttpResponse

from chatbots.models import CCPA, GDPR, MOST_DAYS_OF_DEADLINE, Chatbot, Membership, Variable, stored_formats
from chatbots.operations import chatbots
from chatbots.operations.chatbots import NewVariable
from compliance.lookups import trial
from compliance.work.lookups import overview_of
from console.common.forms import AS_TYPED, ChatbotForm, ConsoleForm
from console.common.pages import render
from console.common.scope import DECIDE, SUPERUSER_ONLY, Role, actor_of

# The id of the list in `console/timezones.html`.
TIMEZONES = "timezones"

Category = Variable.Category

# System variables come from the platform and cannot be created here.
CATEGORIES = [(Category.CUSTOM.value, "Custom"), (Category.USER_CHANNEL.value, "User channel")]

Answer = HttpResponse | str


class SettingForm(ChatbotForm):
    """A form on a page of a chatbot's settings, and the operation that saves it."""

    # The section that is shown after saving, and the name by which its template finds the form.
    section: ClassVar[str]
    form_name: ClassVar[str]
    roles: ClassVar[Collection[Role]] = SUPERUSER_ONLY
    asks_password: ClassVar[bool] = True

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # The variables of the action's URL. They tell forms apart of which the page has several.
        self.path: Mapping[str, Any] = {}

    def save(self, request: HttpRequest) -> Answer:
        """Save the valid form. Returns a response, or a message with which to show the section.

        A ValidationError is shown at the form.
        """
        raise NotImplementedError

    def show(self, request: HttpRequest, template: str, title: str, **context: Any) -> HttpResponse:
        return render(request, f"console/settings/{template}", title=title, chatbot=self.chatbot, **context)


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


class _SwitchForm(SettingForm):
    """A switch is a button, so that a stray click on a checkbox changes nothing."""

    setting: ClassVar[str]
    label: ClassVar[str]
    roles = DECIDE
    asks_password = False

    on = forms.BooleanField(required=False, widget=forms.HiddenInput)

    def save(self, request: HttpRequest) -> str:
        is_on = self.cleaned_data["on"]
        chatbots.change_chatbot(chatbot=self.chatbot, changes={self.setting: is_on}, actor=actor_of(request))
        return f"{self.label} turned {'on' if is_on else 'off'}."


class ComplianceForm(_SwitchForm):
    section = form_name = "compliance"
    setting, label = "compliance_enabled", "Data compliance"


class ExtractsForm(_SwitchForm):
    section = form_name = "extracts"
    setting, label = "extracts_enabled", "Daily extracts"


class _ChangeForm(SettingForm):
    """Its fields are settings of the chatbot, by their names in `operations.SETTINGS`."""

    saved: ClassVar[str]

    def __init__(self, *args: Any, chatbot: Chatbot, **kwargs: Any) -> None:
        present = {name: getattr(chatbot, name, None) for name in self.base_fields}
        super().__init__(*args, chatbot=chatbot, initial=present | kwargs.pop("initial", {}), **kwargs)

    def changes(self) -> dict[str, Any]:
        return self.cleaned_data

    def save(self, request: HttpRequest) -> str:
        chatbots.change_chatbot(chatbot=self.chatbot, changes=self.changes(), actor=actor_of(request))
        return self.saved


class RulesForm(_ChangeForm):
    """Settings for superusers.

    The page also submits the values that it showed, so that only changed settings are saved.
    """

    section = form_name = "rules"
    saved = "Settings saved."

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

    def __init__(self, *args: Any, chatbot: Chatbot, **kwargs: Any) -> None:
        is_number = chatbot.deadline not in {GDPR, CCPA}
        days = {"deadline": DAYS, "deadline_days": chatbot.deadline} if is_number else {}
        super().__init__(*args, chatbot=chatbot, initial=days, **kwargs)
        for field in self.fields.values():
            field.show_hidden_initial = True

    def clean(self) -> None:
        super().clean()
        if self.cleaned_data.get("deadline") == DAYS and self.cleaned_data.get("deadline_days", 0) is None:
            self.add_error("deadline_days", "Enter the number of days.")

    def changes(self) -> dict[str, Any]:
        """Return the changed settings. An unchanged callback URL is not resolved again."""
        changes = {name: self.cleaned_data[name] for name in self.changed_data}
        if {"deadline", "deadline_days"} & changes.keys():
            rule, days = self.cleaned_data["deadline"], self.cleaned_data["deadline_days"]
            changes.pop("deadline_days", None)
            changes["deadline"] = str(days) if rule == DAYS else rule
        return changes


class AssuranceForm(_ChangeForm):
    section = form_name = "assurance"
    roles = DECIDE
    saved = "Setting for exports saved. It applies to exports that have not started."

    export_assurance = forms.ChoiceField(
        label="Conversations in exports", choices=Chatbot.ExportAssurance.choices, widget=forms.RadioSelect
    )


class ExportsForm(_ChangeForm):
    section, form_name = "bucket", "exports"
    roles = DECIDE
    asks_password = False
    saved = "Saved. It applies to exports that are filed from now on."

    export_formats = forms.MultipleChoiceField(
        label="Formats of exports",
        choices=Chatbot.ExportFormat.choices,
        widget=forms.CheckboxSelectMultiple,
        help_text="Preset of new exports; each can have others.",
    )
    csv_dialect = forms.ChoiceField(
        label="CSV dialect of exports",
        choices=Chatbot.CsvDialect.choices,
        widget=forms.RadioSelect,
        help_text="Preset of new exports; each can have another. Daily extracts always have the standard one.",
    )

    def __init__(self, *args: Any, chatbot: Chatbot, **kwargs: Any) -> None:
        formats = {"export_formats": chatbot.export_formats.split()}
        super().__init__(*args, chatbot=chatbot, initial=formats, **kwargs)

    def clean_export_formats(self) -> str:
        return stored_formats(self.cleaned_data["export_formats"])


class UciForm(SettingForm):
    """The variable that identifies a chatter. Changing it requires a confirmation."""

    section = form_name = "uci"
    roles = DECIDE
    asks_password = False

    uci = forms.ChoiceField(label="Unique Chatter Identifier", widget=forms.RadioSelect)
    understood = forms.BooleanField(
        label="I understand that the new UCI applies to new conversations only",
        required=False,
        help_text="Existing conversations can only be found by the former UCI.",
    )

    def __init__(self, *args: Any, chatbot: Chatbot, **kwargs: Any) -> None:
        # The current UCI, former ones, then the others by name.
        found = Variable.objects.filter(chatbot=chatbot).order_by("-is_uci", "-was_uci", "name")
        self.variables = list(found)
        self.current = next((one.name for one in self.variables if one.is_uci), None)
        super().__init__(*args, chatbot=chatbot, initial={"uci": self.current}, **kwargs)
        field: Any = self.fields["uci"]
        field.choices = [(one.name, one.name) for one in self.variables if one.category != Category.SYSTEM]

    def clean(self) -> None:
        super().clean()
        chosen = self.cleaned_data.get("uci")
        if chosen and self.current not in {None, chosen} and not self.cleaned_data.get("understood"):
            self.add_error("understood", "Select this to change the UCI.")

    def save(self, request: HttpRequest) -> str:
        name = self.cleaned_data["uci"]
        chatbots.designate_uci(chatbot=self.chatbot, name=name, actor=actor_of(request))
        return "UCI saved. It applies to new conversations."


class VariableForm(SettingForm):
    section, form_name = "uci", "variables"
    roles = DECIDE
    asks_password = False
    names: ClassVar = {"variables": "name"}

    category = forms.ChoiceField(choices=CATEGORIES, initial=CATEGORIES[0][0], widget=forms.RadioSelect)
    name = forms.CharField(
        strip=False,
        max_length=128,
        help_text="Custom: 1 to 128 printable characters, no leading or trailing spaces. User channel: lower-case "
        "letters, digits and underscores. Use the platform's exact name; it cannot be changed later.",
        widget=forms.TextInput(attrs=AS_TYPED),
    )

    def save(self, request: HttpRequest) -> str:
        variable = NewVariable(self.cleaned_data["category"], self.cleaned_data["name"])
        chatbots.add_variable(chatbot=self.chatbot, variable=variable, actor=actor_of(request))
        return "Variable created. To make it the UCI, choose it and save."


class MemberForm(SettingForm):
    section = form_name = "members"

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
        super().__init__(*args, chatbot=chatbot, **kwargs)
        field: Any = self.fields["user"]
        # Members who are no longer staff are included, so that their role can be removed.
        member = Q(pk__in=Membership.objects.filter(chatbot=chatbot).values("user"))
        field.queryset = User.objects.filter(member | Q(is_staff=True, is_active=True)).order_by("username")

    def save(self, request: HttpRequest) -> str:
        user, chosen = self.cleaned_data["user"], self.cleaned_data["role"]
        role = Membership.Role(chosen) if chosen else None
        chatbots.set_role(chatbot=self.chatbot, user=user, role=role, actor=actor_of(request))
        return "Role saved." if role else "Role removed."


_MOST_CHARACTERS = 10_000


class TrialForm(SettingForm):
    """A value for each variable that is sent. Fields have numbers: names of variables are any text."""

    section = form_name = "resolver"
    roles = DECIDE
    asks_password = False

    def __init__(self, *args: Any, chatbot: Chatbot, **kwargs: Any) -> None:
        super().__init__(*args, chatbot=chatbot, **kwargs)
        self.resolver = overview_of(chatbot)
        self._sent = list(self.resolver.sent) if self.resolver else []
        for number, name in enumerate(self._sent):
            self.fields[f"value_{number}"] = forms.CharField(
                label=name, max_length=_MOST_CHARACTERS, strip=False, widget=forms.TextInput(attrs=AS_TYPED)
            )

    def save(self, request: HttpRequest) -> str:
        """Call the client's address with the typed values for up to five seconds. The message is the outcome."""
        values = {name: self.cleaned_data[f"value_{number}"] for number, name in enumerate(self._sent)}
        return f"{trial.run(chatbot=self.chatbot, values=values, actor=actor_of(request))}."
