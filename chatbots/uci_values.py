"""Which texts can be the value of a Unique Chatter Identifier, wherever one comes from."""

from django.conf import settings

from chatbots.models import MAX_UCI_LENGTH
from common.matching import is_storable


def fault_of(value: str) -> str | None:
    """Return in a sentence why this cannot be a value, or None if it can. Never quotes it."""
    if value in settings.UCI_PLACEHOLDERS:
        return "This value is a placeholder that identifies no one."
    if len(value) > MAX_UCI_LENGTH or not is_storable(value):
        return f"The value must be 1 to {MAX_UCI_LENGTH} characters, without NUL or unpaired surrogates."
    return None
