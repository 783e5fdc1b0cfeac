"""Forms of a chatbot: a new one, its switches, its rules."""

from typing import Any, ClassVar

from django import forms

from chatbots.models import Chatbot, Variable
from chatbots.operations.chatbots import NewVariable
from console.settings.forms.base import ConsoleForm

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
        help_text="Each deletion needs the approval of a person who did not file it. All API keys count as one "
        "person.",
    )
    grace_minutes = forms.IntegerField(
        label="Grace period in minutes",
        min_value=0,
        help_text="How long a request can be cancelled before it starts. At least 15 minutes for requests filed in "
        "the console.",
    )
    require_action = forms.BooleanField(
        label="Require action",
        required=False,
        help_text='API requests must have "action" in their body, so that a captured call cannot be sent to the '
        "other path.",
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
