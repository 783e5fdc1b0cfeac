"""The forms with which a chatbot is set up. They know shapes and words; what may be, the operations say."""

from chatbots.console.forms.base import ConsoleForm
from chatbots.console.forms.buckets import BucketForm
from chatbots.console.forms.chatbots import NewChatbotForm, RulesForm, SwitchForm
from chatbots.console.forms.keys import CallbackSecretForm, NewApiKeyForm, RateLimitForm, RevokeForm
from chatbots.console.forms.members import MemberForm
from chatbots.console.forms.variables import UciForm, VariableForm

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
