"""Operations on chatbots, their variables, keys and members, for the commands and the console.

Each is one transaction, change-log entries included. A refusal is a ValidationError with messages by field, each
saying what to do.
"""

from chatbots.operations.callback_secrets import OVERLAP_HOURS, NewCallbackSecret, create_callback_secret
from chatbots.operations.chatbots import SETTINGS, change_chatbot, create_chatbot
from chatbots.operations.keys import (
    SIGNING_SCOPES,
    NewApiKey,
    change_api_key_rate_limit,
    create_api_key,
    revoke_api_key,
)
from chatbots.operations.members import set_mails, set_role
from chatbots.operations.variables import NewVariable, add_variable, designate_uci

__all__ = [
    "OVERLAP_HOURS",
    "SETTINGS",
    "SIGNING_SCOPES",
    "NewApiKey",
    "NewCallbackSecret",
    "NewVariable",
    "add_variable",
    "change_api_key_rate_limit",
    "change_chatbot",
    "create_api_key",
    "create_callback_secret",
    "create_chatbot",
    "designate_uci",
    "revoke_api_key",
    "set_mails",
    "set_role",
]
