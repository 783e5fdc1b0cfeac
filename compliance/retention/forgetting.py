"""How rows that are due are forgotten: batch by batch, without those that somebody else has locked now.

Rows of the conversation tables are found first, among those of all chatbots, and then locked and changed place by
place: where these tables are distributed, no statement locks rows of several shards, or compares them with a local
table (docs/scaling.md).
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any, Protocol
from uuid import UUID

from django.conf import settings
from django.db import transaction

from common.db import array, execute, fetch
from common.isolation import Isolation
from conversations import machines
from conversations.placement import by_place

_Key = int | UUID

_COUNTED_AT_ONCE = 100_000


class Rule(Protocol):
    """What is due in one store, and how that is forgotten."""

    def count(self) -> int:
        """Return how many rows are due."""

    def forget(self, *, most: int) -> Iterator[int]:
        """Forget what is due, at most so many rows at a time; yield the number of each time."""


def periods() -> dict[str, float]:
    """Return the parameters of the rules, in seconds."""
    return {
        "kept": settings.ERASURE_LEDGER_DAYS.total_seconds(),
        "log_ins_kept": settings.LOGIN_RECORD_DAYS.total_seconds(),
    }


@dataclass(frozen=True)
class AtOnce:
    """A rule of one statement: `due` is its FROM and WHERE, `change` locks and changes a `batch` of these rows."""

    due: str
    change: str

    def count(self) -> int:
        return int(fetch(f"SELECT count(*) {self.due}", periods())[0][0])

    def forget(self, *, most: int) -> Iterator[int]:
        count = most
        while count == most:
            count = execute(self.change, {**periods(), "batch": most})
            yield count


@dataclass(frozen=True)
class FoundFirst:
    """A rule that finds rows before it locks them.

    `find` returns (time, key, chatbot, whether it may go) of the first `batch` rows that are due, in the order of
    time and key, after those of `after_at` and `after`: so what may not go yet keeps nothing else. In it
    `{answering}` stands for a condition on the chatbot (`conversations.machines`). Of the `ids` that may, `kept`
    returns those which stay nevertheless, `lock` locks what is due still and returns their keys, and `changes` change
    these; all of them for the `chatbots` of one place.
    """

    find: str
    lock: str
    changes: tuple[str, ...]
    kept: str = ""
    first: _Key = 0  # before every key

    def count(self) -> int:
        pages = self._pages(_COUNTED_AT_ONCE)
        return sum(len(self._going(page, keys)[0]) for page in pages for keys in by_place(page))

    def forget(self, *, most: int) -> Iterator[int]:
        """As every rule; raises SomeFailed after all chatbots."""
        with Isolation() as isolated:
            for page in self._pages(most):
                places = [{key: page[key] for key in keys} for keys in by_place(page)]
                yield sum(sum(isolated.by_chatbot(place, partial(self._change, page))) for place in places)

    def _pages(self, most: int) -> Iterator[dict[_Key, int]]:
        """Yield what may go by each page of what is due: the keys, with their chatbots."""
        after: tuple[datetime | str, _Key] = ("-infinity", self.first)
        rows: list[tuple[Any, ...]] | None = None
        find = self.find.format(answering=machines.on_answering())
        while rows is None or len(rows) == most:
            rows = fetch(find, {**periods(), "batch": most, "after_at": after[0], "after": after[1]})
            if rows:
                after = max((at, key) for at, key, _, _ in rows)
                yield {key: chatbot_id for _, key, chatbot_id, may_go in rows if may_go}

    def _going(self, page: Mapping[_Key, int], keys: Collection[_Key]) -> tuple[set[_Key], str]:
        """Return which of these keys of one place go, and their chatbots."""
        chatbots = array({page[key] for key in keys})
        kept = fetch(self.kept, {**periods(), "ids": array(keys), "chatbots": chatbots}) if self.kept else []
        return set(keys) - {key for (key,) in kept}, chatbots

    def _change(self, page: Mapping[_Key, int], keys: Collection[_Key]) -> int:
        keys, chatbots = self._going(page, keys)
        values = {**periods(), "chatbots": chatbots}
        with transaction.atomic():
            locked = [key for (key,) in fetch(self.lock, {**values, "ids": array(keys)})]
            for change in self.changes if locked else ():
                execute(change, {**values, "ids": array(locked)})
        return len(locked)
