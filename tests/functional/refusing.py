"""A storage that refuses certain calls on certain keys while a test wants it to."""

from collections.abc import Callable, Iterable
from typing import Any

import pytest

from common.storage import ObjectStorage, StorageError, errors
from common.storage.removal import Removal, Removed
from tests.functional.elsewhere import Elsewhere
from tests.patches import after, before

FILES = "uploads/"
EXPORTS = "/chatter_data_exports/"
EXTRACTS = "/daily_conversations_extracts/"


class Refusals:
    """Parts of refused keys by kind of refusal; empty at the start, and emptied again after use."""

    def __init__(self) -> None:
        # Permanent refusal of removals: a person has to lift the lock.
        self.locked: set[str] = set()
        # Temporary refusal of removals: tried again.
        self.busy: set[str] = set()
        # Refusal of writes, temporary and permanent.
        self.unwritable: set[str] = set()
        self.forbidden: set[str] = set()

    def end(self) -> None:
        for parts in (self.locked, self.busy, self.unwritable, self.forbidden):
            parts.clear()

    def set_up(self, monkeypatch: pytest.MonkeyPatch) -> None:
        remove = Removal.purge_many

        def refusing_remove(removal: Removal, keys: Iterable[str]) -> Removed:
            every = list(keys)
            refused = {key: error for key in every if (error := self._of_removal(key))}
            removed = remove(removal, [key for key in every if key not in refused])
            removed.failed |= refused
            return removed

        def refuse_to_open(_: ObjectStorage, key: str, **__: Any) -> None:
            if _is_met(key, self.forbidden):
                raise errors.denied("s3:PutObject")
            if _is_met(key, self.unwritable):
                raise errors.unavailable()

        monkeypatch.setattr(Removal, "purge_many", refusing_remove)
        before(monkeypatch, ObjectStorage, "open_upload", refuse_to_open)

    def _of_removal(self, key: str) -> StorageError | None:
        if _is_met(key, self.locked):
            return errors.locked()
        return errors.unavailable() if _is_met(key, self.busy) else None


def _is_met(key: str, parts: Iterable[str]) -> bool:
    return any(part in key for part in parts)


def in_the_gap(
    monkeypatch: pytest.MonkeyPatch, method: str, part: str, when: str, meanwhile: Callable[[], object]
) -> list[str]:
    """Run a function elsewhere once, `before` or `after` a call of this ObjectStorage method on a matching key.

    Return a list that then contains the key, which contains `part`.
    """
    met: list[str] = []

    def act(_: ObjectStorage, key: str, *__: Any, **___: Any) -> None:
        if part in key and not met:
            met.append(key)
            Elsewhere(meanwhile).end()

    {"before": before, "after": after}[when](monkeypatch, ObjectStorage, method, act)
    return met
