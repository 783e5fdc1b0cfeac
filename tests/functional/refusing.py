"""A storage that refuses certain calls on certain keys, as long as a test wants it to."""

from collections.abc import Callable, Iterable
from typing import Any

import pytest

from common.storage import ObjectStorage, StorageError, errors
from common.storage.removal import Removal, Removed
from tests.functional.elsewhere import Elsewhere

FILES = "uploads/"
EXPORTS = "/chatter_data_exports/"
EXTRACTS = "/daily_conversations_extracts/"


class Refusals:
    """Parts of keys, by what the storage refuses: empty in the beginning, and to be emptied again."""

    def __init__(self) -> None:
        # Removal for good: a person has to lift the lock.
        self.locked: set[str] = set()
        # Removal for now: it is tried again.
        self.busy: set[str] = set()
        # Writing, for now and for good.
        self.unwritable: set[str] = set()
        self.forbidden: set[str] = set()

    def end(self) -> None:
        for parts in (self.locked, self.busy, self.unwritable, self.forbidden):
            parts.clear()

    def set_up(self, monkeypatch: pytest.MonkeyPatch) -> None:
        remove, open_upload = Removal.purge_many, ObjectStorage.open_upload

        def refusing_remove(removal: Removal, keys: Iterable[str]) -> Removed:
            every = list(keys)
            refused = {key: error for key in every if (error := self._of_removal(key))}
            removed = remove(removal, [key for key in every if key not in refused])
            removed.failed |= refused
            return removed

        def refusing_open(storage: ObjectStorage, key: str, **options: Any) -> str:
            if _is_met(key, self.forbidden):
                raise errors.denied("s3:PutObject")
            if _is_met(key, self.unwritable):
                raise errors.unavailable()
            return open_upload(storage, key, **options)

        monkeypatch.setattr(Removal, "purge_many", refusing_remove)
        monkeypatch.setattr(ObjectStorage, "open_upload", refusing_open)

    def _of_removal(self, key: str) -> StorageError | None:
        if _is_met(key, self.locked):
            return errors.locked()
        return errors.unavailable() if _is_met(key, self.busy) else None


def _is_met(key: str, parts: Iterable[str]) -> bool:
    return any(part in key for part in parts)


def in_the_gap(
    monkeypatch: pytest.MonkeyPatch, method: str, part: str, when: str, meanwhile: Callable[[], object]
) -> list[str]:
    """Do something elsewhere, once, `before` or `after` a call of this method of ObjectStorage on such a key.

    Return a list that then holds the key, of which `part` is a part.
    """
    original = getattr(ObjectStorage, method)
    met: list[str] = []

    def hooked(storage: ObjectStorage, key: str, *args: Any, **options: Any) -> Any:
        is_ours = part in key and not met
        if is_ours:
            met.append(key)
        if is_ours and when == "before":
            Elsewhere(meanwhile).end()
        answer = original(storage, key, *args, **options)
        if is_ours and when == "after":
            Elsewhere(meanwhile).end()
        return answer

    monkeypatch.setattr(ObjectStorage, method, hooked)
    return met
