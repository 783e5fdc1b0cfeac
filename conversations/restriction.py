"""Conversations that only officers read for now, and new extracts leave out. `compliance.apps` says which."""

from collections.abc import Callable, Collection

# Functions that return which of a chatbot's conversations with these numbers are restricted; of all of them for None.
FINDERS: list[Callable[[int, Collection[int] | None], set[int]]] = []


def find_restricted(chatbot_id: int, numbers: Collection[int] | None = None) -> set[int]:
    """Return which of these conversations are restricted; without `numbers`, all that are."""
    return set[int]().union(*(find(chatbot_id, numbers) for find in FINDERS))
