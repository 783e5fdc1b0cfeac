"""Encrypted values that a form carries through the browser, valid for one purpose, chatbot and user."""

import json
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from django.utils import timezone

from chatbots.models import Chatbot
from common.crypto import SecretUnreadable, decrypt, encrypt


class InvalidToken(Exception):
    """The token was not issued to this user for this purpose and chatbot."""


@dataclass(frozen=True)
class Seal:
    """`actor` is the user, in the form of the change log's actors."""

    purpose: str
    chatbot: Chatbot
    actor: str

    def seal(self, value: Any) -> str:
        """Return a token with a value of JSON."""
        # Not escaped, so that the form with the token is not larger than the form with the values.
        text = json.dumps([value, timezone.now().timestamp()], ensure_ascii=False)
        return encrypt(text, bound_to=self._bound_to)

    def open(self, token: str) -> "Opened":
        """Undo `seal`. Raises InvalidToken."""
        try:
            value, at = json.loads(decrypt(token, bound_to=self._bound_to))
        except SecretUnreadable:
            pass
        else:
            return Opened(value, at)
        # Raised outside the except block: its context would contain the text that was sent.
        raise InvalidToken

    @property
    def _bound_to(self) -> str:
        # Includes the form of the sealed value: during an upgrade, tokens from pages of another version are refused.
        return f"console:sealed-3:{self.purpose}:{self.chatbot.pk}:{self.actor}"


@dataclass(frozen=True)
class Opened:
    """The value of a token, and when it was sealed, in seconds since 1970."""

    value: Any
    at: float

    def is_older_than(self, lifetime: timedelta) -> bool:
        return timezone.now().timestamp() - self.at >= lifetime.total_seconds()
