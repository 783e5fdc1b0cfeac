"""When there was which fault, so that it is known what a fault explains."""

import threading
from datetime import datetime, timedelta
from typing import NamedTuple

from tests.oracle.model import now


class Outage(NamedTuple):
    """A fault, from its cause until the service is seen to be as before."""

    name: str
    since: datetime
    until: datetime


class Outages:
    """One fault after another, noted by one thread, and asked for by all."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.over: list[Outage] = []
        self._began = now()
        self.present = ""

    def begin(self, name: str) -> None:
        with self._lock:
            self._began, self.present = now(), name

    def end(self) -> None:
        with self._lock:
            self.over.append(Outage(self.present, self._began, now()))
            self.present = ""

    def within(self, since: datetime, until: datetime) -> float:
        """Return for how many seconds of this time there was a fault."""
        spans = [(max(one.since, since), min(one.until, until)) for one in self._all()]
        return sum(max(timedelta(0), end - begin).total_seconds() for begin, end in spans)

    def names(self, since: datetime, until: datetime) -> set[str]:
        """Return the faults of this time."""
        return {one.name for one in self._all() if one.since <= until and one.until >= since}

    def lately(self, seconds: float) -> bool:
        """Return whether there is a fault, or was one so many seconds ago."""
        return self.within(now() - timedelta(seconds=seconds), now()) > 0

    def _all(self) -> list[Outage]:
        with self._lock:
            present = [Outage(self.present, self._began, now())] if self.present else []
            return [*self.over, *present]
