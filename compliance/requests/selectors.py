"""The selector of a request: one chatter, or certain conversations."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from chatbots.models import uci_value_fault
from common.texts import holds, is_storable
from compliance.errors import Refused

MOST_CONVERSATIONS = MOST_IDS = 100
LONGEST_ID = 200


@dataclass(frozen=True)
class ByUci:
    """One chatter: the name of a present or former Unique Chatter Identifier of the chatbot, and its exact value."""

    key: str
    value: str

    description: ClassVar[str] = "the chatter's value"

    def check(self) -> None:
        """Raise Refused(`invalid`) unless the value can belong to a chatter. The detail never quotes it."""
        if fault := uci_value_fault(self.value):
            raise Refused("invalid", fault, pointer="/unique_chatter_identifier_value")

    def is_in(self, text: str) -> bool:
        """Return whether the text contains the value, in any case or form; see `holds`."""
        return holds(text, self.value)


@dataclass(frozen=True)
class _ByIds:
    """Rows by the platform's ids, in a field of the body at `_pointer`."""

    ids: tuple[str, ...]

    description: ClassVar[str]
    _pointer: ClassVar[str]
    _plural: ClassVar[str]

    def check(self) -> None:
        """Raise Refused(`invalid`) at the first fault; see `faults`."""
        for fault in self.faults():
            raise fault

    def faults(self) -> Iterator[Refused]:
        """Yield the faults of the ids, each with a pointer. No detail quotes an id."""
        if not 1 <= len(self.ids) <= MOST_IDS:
            yield Refused("invalid", f"Name 1 to {MOST_IDS} {self._plural}.", pointer=self._pointer)
            return
        seen: Counter[str] = Counter()
        for place, one in enumerate(self.ids):
            seen[one] += 1
            if not 1 <= len(one) <= LONGEST_ID or not is_storable(one):
                detail = f"An id must be 1 to {LONGEST_ID} characters, without NUL or unpaired surrogates."
                yield Refused("invalid", detail, pointer=f"{self._pointer}/{place}")
            elif seen[one] > 1:
                yield Refused("invalid", "This id is in the list twice.", pointer=f"{self._pointer}/{place}")

    def is_in(self, text: str) -> bool:
        """Return whether the text contains one of the ids, in any case or form; see `holds`."""
        return holds(text, *self.ids)


@dataclass(frozen=True)
class ByConversations(_ByIds):
    """Certain conversations, by the platform's ids. Unknown ids are ignored."""

    description = "a conversation's id"
    _pointer = "/conversation_ids"
    _plural = "conversations"


@dataclass(frozen=True)
class ByMessages(_ByIds):
    """Certain messages of one conversation, by the platform's ids."""

    description = "a message's id"
    _pointer = "/ids"
    _plural = "messages"


Selector = ByUci | ByConversations
# Texts that are kept of a request must not contain them.
Identifiers = ByUci | _ByIds
