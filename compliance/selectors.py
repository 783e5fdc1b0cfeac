"""Whom a request is about."""

from dataclasses import dataclass

from django.conf import settings

from compliance.errors import Refused


@dataclass(frozen=True)
class ByUci:
    """One chatter: the name of a present or former Unique Chatter Identifier of the chatbot, and its exact value."""

    key: str
    value: str

    def check(self) -> None:
        """Raise Refused(`invalid`) unless the value can name a chatter; the detail never quotes it."""
        pointer = "/unique_chatter_identifier_value"
        if self.value in settings.UCI_PLACEHOLDERS:
            raise Refused("invalid", "This value is a placeholder that identifies nobody.", pointer=pointer)
        unwanted = any(character == "\0" or "\ud800" <= character <= "\udfff" for character in self.value)
        if len(self.value) > 512 or unwanted:
            detail = "The value must be 1 to 512 characters, without NUL or unpaired surrogates."
            raise Refused("invalid", detail, pointer=pointer)
