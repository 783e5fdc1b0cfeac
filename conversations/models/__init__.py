from conversations.models.conversations import (
    Conversation,
    ErasedChatter,
    Identity,
    Message,
    UploadedFile,
    VariableValue,
)
from conversations.models.extracts import DailyExtract, ExtractErasure

__all__ = [
    "Conversation",
    "DailyExtract",
    "ErasedChatter",
    "ExtractErasure",
    "Identity",
    "Message",
    "UploadedFile",
    "VariableValue",
]
