from conversations.models.assurance import Assurance
from conversations.models.conversations import (
    Conversation,
    Identity,
    Message,
    NameWord,
    VariableValue,
)
from conversations.models.erased import RefusedIdentity, Tombstone
from conversations.models.extracts import DailyExtract, ExtractConversation
from conversations.models.files import UploadedFile
from conversations.models.lookups import IdentityLookup

__all__ = [
    "Assurance",
    "Conversation",
    "DailyExtract",
    "ExtractConversation",
    "Identity",
    "IdentityLookup",
    "Message",
    "NameWord",
    "RefusedIdentity",
    "Tombstone",
    "UploadedFile",
    "VariableValue",
]
