"""What is not as promised, with what is needed to find out why."""

import threading
import time
from collections import Counter
from dataclasses import dataclass

from tests.oracle.outages import Outages

# Of one kind: the first tell enough.
_MOST = 25


@dataclass(frozen=True)
class Violation:
    """`kind` is the same for violations of one promise; `told` says of whom or what; `seconds` is when it was seen,
    counted from the beginning, and `during` the fault of then, if there was one."""

    kind: str
    told: str
    seconds: float
    during: str


class Violations:
    """Collects them, from any thread. Of each kind the first are kept, the others counted.

    `outages` says which faults there were, so that what one of them explains is no violation.
    """

    def __init__(self) -> None:
        self.outages = Outages()
        self._began = time.monotonic()
        self._lock = threading.Lock()
        self._kept: list[Violation] = []
        self._seen: set[tuple[str, str]] = set()
        self._told = 0
        self.counts: Counter[str] = Counter()

    def restart_clock(self) -> None:
        self._began = time.monotonic()

    def add(self, kind: str, told: str) -> None:
        with self._lock:
            if (kind, told) in self._seen:
                return
            self._seen.add((kind, told))
            self.counts[kind] += 1
            if self.counts[kind] <= _MOST:
                self._kept.append(Violation(kind, told, time.monotonic() - self._began, self.outages.present))

    def news(self) -> list[Violation]:
        """Return those that were kept since the last call."""
        with self._lock:
            found = self._kept[self._told :]
            self._told = len(self._kept)
            return found

    @property
    def kept(self) -> list[Violation]:
        with self._lock:
            return list(self._kept)

    @property
    def kinds(self) -> set[str]:
        with self._lock:
            return set(self.counts)
