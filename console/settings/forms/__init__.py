"""The forms of the settings page. The operations validate what they submit."""

from console.settings.forms.base import ConsoleForm
from console.settings.forms.buckets import BucketForm
from console.settings.forms.chatbots import NewChatbotForm, RulesForm, SwitchForm
from console.settings.forms.keys import CallbackSecretForm, NewApiKeyForm, RateLimitForm, RevokeForm
from console.settings.forms.members import MemberForm
from console.settings.forms.variables import UciForm, VariableForm

__all__ = [
    "BucketForm",
    "CallbackSecretForm",
    "ConsoleForm",
    "MemberForm",
    "NewApiKeyForm",
    "NewChatbotForm",
    "RateLimitForm",
    "RevokeForm",
    "RulesForm",
    "SwitchForm",
    "UciForm",
    "VariableForm",
]
