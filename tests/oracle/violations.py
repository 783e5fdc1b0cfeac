"""The violations of promises, and the faults of that time, which explain some answers to clients."""

import threading
import time
import traceback
from collections import Counter
from collections.abc import Collection
from datetime import datetime, timedelta
from pathlib import Path
from typing import NamedTuple

from tests.oracle.model import now

# The number of violations of one kind that are kept.
_MOST = 25


class Outage(NamedTuple):
    """A fault, from its cause until the service is seen to be as before."""

    name: str
    since: datetime
    until: datetime


class Outages:
    """One fault after another, recorded by one thread, and read by all.

    `excuses` are codes of refusals that the present one explains, such as a clock that is wrong.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.over: list[Outage] = []
        self._began = now()
        self.present = ""
        self.excuses: Collection[str] = ()

    def begin(self, name: str, excuses: Collection[str] = ()) -> None:
        with self._lock:
            self._began, self.present, self.excuses = now(), name, excuses

    def end(self) -> None:
        with self._lock:
            self.over.append(Outage(self.present, self._began, now()))
            self.present, self.excuses = "", ()

    def within(self, since: datetime, until: datetime) -> float:
        """Return the number of seconds of this time with a fault."""
        spans = [(max(one.since, since), min(one.until, until)) for one in self._all()]
        return sum(max(timedelta(0), end - begin).total_seconds() for begin, end in spans)

    def names(self, since: datetime, until: datetime) -> set[str]:
        """Return the faults of this time."""
        return {one.name for one in self._all() if one.since <= until and one.until >= since}

    def lately(self, seconds: float) -> bool:
        """Return whether there is a fault, or was one within these seconds."""
        return self.within(now() - timedelta(seconds=seconds), now()) > 0

    def _all(self) -> list[Outage]:
        with self._lock:
            present = [Outage(self.present, self._began, now())] if self.present else []
            return [*self.over, *present]


class Violation(NamedTuple):
    """`kind` is the same for violations of one promise; `told` describes it; `seconds` is the time when it was seen,
    counted from the beginning, and `during` the fault of then, if there was one."""

    kind: str
    told: str
    seconds: float
    during: str

    def __str__(self) -> str:
        during = f" [during: {self.during}]" if self.during else ""
        return f"{self.seconds:.0f} s  {self.kind}: {self.told}{during}"


class Violations:
    """Collects violations from any thread. The first of each kind are kept, the others counted.

    `outages` are the faults: an effect that one of them explains is no violation.
    """

    def __init__(self) -> None:
        self.outages = Outages()
        self.began = time.monotonic()
        self._lock = threading.Lock()
        self.kept: list[Violation] = []
        self._seen: set[tuple[str, str]] = set()
        self._told = 0
        self.counts: Counter[str] = Counter()

    def add(self, kind: str, told: str) -> None:
        with self._lock:
            if (kind, told) in self._seen:
                return
            self._seen.add((kind, told))
            self.counts[kind] += 1
            if self.counts[kind] <= _MOST:
                self.kept.append(Violation(kind, told, time.monotonic() - self.began, self.outages.present))

    def at_fault(self, what: str, error: Exception) -> None:
        """Record an error of the check itself, while everything else continues."""
        place = traceback.extract_tb(error.__traceback__)[-1]
        told = f"{what}: {type(error).__name__} in {Path(place.filename).name}:{place.lineno}: {error}"
        self.add("the soak itself", told)

    def news(self) -> list[Violation]:
        """Return those that were kept since the last call."""
        with self._lock:
            found = self.kept[self._told :]
            self._told = len(self.kept)
            return found

    @property
    def kinds(self) -> set[str]:
        return set(self.counts)
