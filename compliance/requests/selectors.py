"""Whom a request is about: one chatter, or certain conversations."""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import unquote

from django.conf import settings

from compliance.errors import Refused

MOST_CONVERSATIONS = 100
LONGEST_ID = 200

_MOST_ENCODINGS = 8

# What Unicode has readers overlook (Default_Ignorable_Code_Point), beside the format characters.
_OVERLOOKED = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u3164\ufe00-\ufe0f\uffa0\U000e0000-\U000e0fff]"
)


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
        if len(self.value) > 512 or _cannot_be_stored(self.value):
            detail = "The value must be 1 to 512 characters, without NUL or unpaired surrogates."
            raise Refused("invalid", detail, pointer=pointer)

    def is_in(self, text: str) -> bool:
        """Say whether the text tells whom this names, in whatever case or form; see `holds`."""
        return holds(text, self.value)


@dataclass(frozen=True)
class ByConversations:
    """Certain conversations, by the ids that the platform gave them. Of an id that nothing has, nothing is held."""

    ids: tuple[str, ...]

    def check(self) -> None:
        """Raise Refused(`invalid`) at the first fault; see `faults`."""
        for fault in self.faults():
            raise fault

    def faults(self) -> Iterator[Refused]:
        """Yield what is wrong with the ids, each with a pointer; no detail quotes one."""
        pointer = "/conversation_ids"
        if not 1 <= len(self.ids) <= MOST_CONVERSATIONS:
            yield Refused("invalid", f"Name 1 to {MOST_CONVERSATIONS} conversations.", pointer=pointer)
            return
        seen: Counter[str] = Counter()
        for place, one in enumerate(self.ids):
            seen[one] += 1
            if not 1 <= len(one) <= LONGEST_ID or _cannot_be_stored(one):
                detail = f"An id must be 1 to {LONGEST_ID} characters, without NUL or unpaired surrogates."
                yield Refused("invalid", detail, pointer=f"{pointer}/{place}")
            elif seen[one] > 1:
                yield Refused("invalid", "This id stands in the list twice.", pointer=f"{pointer}/{place}")

    def is_in(self, text: str) -> bool:
        """Say whether the text tells what this names, in whatever case or form; see `holds`."""
        return holds(text, *self.ids)


Selector = ByUci | ByConversations


def holds(text: str, *values: str) -> bool:
    """Say whether one of the values stands in a text: in whatever case, Unicode form or width, with characters in
    between that nobody sees, plain or percent-encoded (once or more), with `+` for a space or not.

    So nothing that is kept may hold the value of somebody who asked to be forgotten. A text that is encoded more
    often than anybody does is taken to hold it.
    """
    readings = [text]
    while (decoded := unquote(readings[-1])) != readings[-1]:
        if len(readings) > _MOST_ENCODINGS:
            return True
        readings.append(decoded)
    # As one text, or a hundred ids would each look through all of them. No value holds a NUL.
    folded = "\0".join(_folded(each) for reading in readings for each in (reading, reading.replace("+", " ")))
    # A value that is made of what nobody sees alone is looked for as it is.
    return any(wanted in folded if (wanted := _folded(value)) else value in readings[-1] for value in values)


def _folded(text: str) -> str:
    """Return a text as Unicode compares it without case (NFKC_Casefold)."""
    if text.isascii():
        return text.casefold()
    seen = "".join(each for each in _OVERLOOKED.sub("", text) if unicodedata.category(each) != "Cf")
    # Folding can undo the normal form, and undoing that can need folding.
    for _ in range(2):
        seen = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", seen).casefold())
    return seen


def _cannot_be_stored(text: str) -> bool:
    return any(character == "\0" or "\ud800" <= character <= "\udfff" for character in text)
