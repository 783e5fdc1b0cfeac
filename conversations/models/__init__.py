from conversations.models.conversations import (
    Assurance,
    Conversation,
    ErasedChatter,
    Identity,
    Message,
    UploadedFile,
    VariableValue,
)
from conversations.models.extracts import DailyExtract, ExtractConversation

__all__ = [
    "Assurance",
    "Conversation",
    "DailyExtract",
    "ErasedChatter",
    "ExtractConversation",
    "Identity",
    "Message",
    "UploadedFile",
    "VariableValue",
]
