"""A turn that this process has leased, with the objects for its steps."""

from datetime import datetime, timedelta
from functools import cached_property

from compliance.canary.client import Client
from compliance.canary.report import Report
from compliance.canary.words import Planted, Search
from compliance.models import Canary, CanaryTurn

# How long the words of a turn are searched for again.
_AGAIN = timedelta(days=1)


class Work:
    """What a step works with. It adds to `report`, which is new for each step."""

    def __init__(self, turn: CanaryTurn, search: Search | None = None) -> None:
        self.turn, self.planted, self.report = turn, Planted(turn.pk), Report()
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
