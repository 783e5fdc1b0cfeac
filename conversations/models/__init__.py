from conversations.models.conversations import (
    Conversation,
    ErasedChatter,
    Identity,
    Message,
    UploadedFile,
    VariableValue,
)
from conversations.models.extracts import DailyExtract, ExtractConversation

__all__ = [
    "Conversation",
    "DailyExtract",
    "ErasedChatter",
    "ExtractConversation",
    "Identity",
    "Message",
    "UploadedFile",
    "VariableValue",
]
