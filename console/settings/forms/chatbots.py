"""Forms of a chatbot itself: a new one, its switches, its rules."""

from typing import Any, ClassVar

from django import forms

from chatbots.models import Chatbot, Variable
from chatbots.operations import NewVariable
from console.settings.forms.base import ConsoleForm

# The list that the page holds once, `console/timezones.html`.
TIMEZONES = "timezones"

Category = Variable.Category

# What a person can create: system variables are the platform's.
CATEGORIES = [(Category.CUSTOM.value, "Custom"), (Category.USER_CHANNEL.value, "User channel")]


def timezone_field() -> forms.CharField:
    """Return a field that offers the time zones there are and takes any text, which the operation judges."""
    return forms.CharField(
        label="Time zone",
        max_length=64,
        help_text="An IANA name such as Europe/Paris. Days of extracts and times in the console are in this zone.",
        widget=forms.TextInput(attrs={"list": TIMEZONES, "autocomplete": "off", "spellcheck": "false"}),
    )


class NewChatbotForm(ConsoleForm):
    names: ClassVar = {"variables": "variable", "uci": "variable"}

    slug = forms.SlugField(
        max_length=64,
        help_text="Names the chatbot in the API's addresses and in its folder of the bucket. Letters, digits, "
        "hyphens and underscores. It cannot be changed later.",
        widget=forms.TextInput(attrs={"autocomplete": "off", "autocapitalize": "none", "spellcheck": "false"}),
    )
    name = forms.CharField(max_length=200, help_text="For people to read.")
    timezone = timezone_field()
    variable = forms.CharField(
        label="Unique Chatter Identifier",
        required=False,
        max_length=128,
        help_text="The variable that tells who a chatter is, such as member_id. Leave it empty to choose one later; "
        "conversations that begin before then cannot be found by chatter.",
        widget=forms.TextInput(attrs={"autocomplete": "off", "autocapitalize": "none", "spellcheck": "false"}),
    )
    category = forms.ChoiceField(
        label="Its category",
        choices=CATEGORIES,
        initial=Category.CUSTOM.value,
        widget=forms.RadioSelect,
        help_text="Prefer a custom variable that an API call sets: what comes through the user channel can be forged "
        "on the way.",
    )
    enable_compliance = forms.BooleanField(
        label="Data compliance is on",
        required=False,
        initial=True,
        help_text="Deletions and exports may be filed.",
    )
    hosted_bucket = forms.BooleanField(
        label="Put exports into the operator's bucket",
        required=False,
        initial=True,
        help_text="A client's own bucket can be set afterwards. Without any, exports cannot be filed.",
    )

    def asked(self) -> dict[str, Any]:
        """Return the arguments of `operations.create_chatbot`."""
        data = self.cleaned_data
        asked: dict[str, Any] = {
            name: data[name] for name in ("slug", "name", "timezone", "enable_compliance", "hosted_bucket")
        }
        if data["variable"]:
            asked |= {"variables": [NewVariable(data["category"], data["variable"])], "uci": data["variable"]}
        return asked


class SwitchForm(ConsoleForm):
    """A switch is a button that says what it does, so that nothing changes by a stray click on a box."""

    on = forms.BooleanField(required=False, widget=forms.HiddenInput)


class RulesForm(ConsoleForm):
    """Settings for superusers, by their names in `operations.SETTINGS`.

    The page sends back what it showed, beside what was filled in: what somebody else has changed meanwhile stays.
    """

    name = forms.CharField(max_length=200, help_text="For people to read.")
    timezone = timezone_field()
    max_conversations_per_deletion = forms.IntegerField(
        label="Guard",
        min_value=0,
        help_text="A deletion that would erase more conversations than this is held until someone approves it: often "
        "a placeholder or a shared value is the cause.",
    )
    four_eyes = forms.BooleanField(
        label="Four eyes",
        required=False,
        help_text="Each deletion waits for an approval, and whoever filed it cannot give it. All API keys count as "
        "one.",
    )
    grace_minutes = forms.IntegerField(
        label="Grace, in minutes",
        min_value=0,
        help_text="How long a request can be withdrawn before it is taken up. Requests filed in the console wait 15 "
        "minutes at least.",
    )
    require_action = forms.BooleanField(
        label="Require the action",
        required=False,
        help_text='A request must carry "action" in its body, so that a captured call cannot be sent to the other '
        "path.",
    )
    callback_url = forms.CharField(
        label="Callback URL",
        required=False,
        max_length=500,
        help_text="Who is told what became of a request that names no address itself. Empty: nobody.",
        widget=forms.TextInput(attrs={"inputmode": "url", "autocomplete": "off", "spellcheck": "false"}),
    )

    def __init__(self, *args: Any, chatbot: Chatbot, **kwargs: Any) -> None:
        initial = {name: getattr(chatbot, name) for name in self.base_fields}
        super().__init__(*args, initial=initial, **kwargs)
        for field in self.fields.values():
            field.show_hidden_initial = True

    def changes(self) -> dict[str, Any]:
        """Return what differs from what was shown: a callback URL that stays is not looked up again."""
        return {name: self.cleaned_data[name] for name in self.changed_data}
