"""What one step works with, and what it finds."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from functools import cached_property
from typing import NamedTuple

from compliance.canary.client import Client
from compliance.canary.errors import SEARCH_ERRORS, Inconclusive, inconclusive
from compliance.canary.words import Planted, Search
from compliance.models import Canary, CanaryTurn
from compliance.models.canary import Left, Place

# How long the words of a turn are searched for again.
_AGAIN = timedelta(days=1)


class Finding(NamedTuple):
    """A leftover. A turn's row stores its fields."""

    place: str
    code: str
    where: str


class Work:
    """A turn that this process has leased. `trouble` is the first failure of the search."""

    def __init__(self, turn: CanaryTurn, search: Search | None = None) -> None:
        self.turn, self.planted = turn, Planted(turn.pk)
        self.findings: set[Finding] = set()
        self.trouble: Inconclusive | None = None
        if search is not None:
            self.search = search

    @cached_property
    def client(self) -> Client:
        """Raises Inconclusive."""
        return Client.of(Canary.objects.select_related("chatbot").get())

    @cached_property
    def former(self) -> list[CanaryTurn]:
        """The turns whose chatters were erased in the day before this one, newest first.

        Their words are searched for again: something may have brought them back, or written them late.
        """
        turns = CanaryTurn.objects.filter(erased_at__gt=self.turn.began_at - _AGAIN).exclude(pk=self.turn.pk)
        return list(turns.order_by("-began_at"))

    @cached_property
    def search(self) -> Search:
        return Search([self.planted.stem, *(Planted(each.pk).stem for each in self.former)])

    @property
    def since(self) -> datetime:
        """When the last turn began that could search all places: newer data may not have been searched."""
        looked = (each.began_at for each in self.former if not each.trouble)
        return next(looked, self.turn.began_at - _AGAIN)

    def add_finding(self, place: Place, code: Left, where: str) -> None:
        self.findings.add(Finding(place.value, code.value, where))

    def add_failure(self, failure: Inconclusive) -> None:
        self.trouble = self.trouble or failure

    @contextmanager
    def capture_failure(self, where: str) -> Iterator[None]:
        """Record a failure of the block, so that the search continues after it."""
        try:
            yield
        except SEARCH_ERRORS as error:
            self.add_failure(inconclusive(error, where))
