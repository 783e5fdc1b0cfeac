"""Which conversations requests protect: questions whose answers `compliance.apps` gives.

This module loads nothing else, since every process loads it.
"""

from collections.abc import Callable, Collection
from uuid import UUID

# Functions that return which of a chatbot's conversations with these numbers are restricted; of all of them for None.
RESTRICTED: list[Callable[[int, Collection[int] | None], set[int]]] = []
# Functions that return for which of a chatbot's conversations with these numbers a request waits.
WAITED_FOR: list[Callable[[int, Collection[int]], set[int]]] = []
# Functions that return which of these are under a legal hold.
UNDER_HOLD: list[Callable[[int, Collection[int]], set[int]]] = []
# Functions that return which of these requests have left out conversations under a legal hold.
WITHHOLDING: list[Callable[[Collection[UUID]], set[UUID]]] = []


def find_restricted(chatbot_id: int, numbers: Collection[int] | None = None) -> set[int]:
    """Return which of these conversations only officers read for now, and new extracts leave out.

    Without `numbers`, all that are.
    """
    return set[int]().union(*(find(chatbot_id, numbers) for find in RESTRICTED))


def find_waited_for(chatbot_id: int, numbers: Collection[int]) -> set[int]:
    return set[int]().union(*(find(chatbot_id, numbers) for find in WAITED_FOR))


def find_under_hold(chatbot_id: int, numbers: Collection[int]) -> set[int]:
    """Return which of these conversations are under a legal hold: nothing closes these."""
    return set[int]().union(*(find(chatbot_id, numbers) for find in UNDER_HOLD)) if numbers else set()


def find_withholding(request_ids: Collection[UUID]) -> set[UUID]:
    return set[UUID]().union(*(find(request_ids) for find in WITHHOLDING))
