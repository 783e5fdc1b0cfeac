"""Watches the processes: how much memory each has at the beginning, and at the end."""

import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from scripts.processes import children_of
from tests.faults.site import Site


@dataclass
class Life:
    """A process that was seen: its memory, in MiB, when it was seen first, and last, and the most it had."""

    kind: str
    first_seen: float
    last_seen: float
    first: float
    last: float
    peak: float

    @property
    def seconds(self) -> float:
        return self.last_seen - self.first_seen

    @property
    def growth(self) -> float:
        return self.peak - self.first


class Watcher(threading.Thread):
    """Looks at the memory of all processes of a site every five seconds."""

    def __init__(self, site: Site, over: threading.Event) -> None:
        super().__init__(name="watcher", daemon=True)
        self.lives: dict[tuple[int, str], Life] = {}
        self._kinds: dict[int, str] = {}
        self._site = site
        self._over = over

    def run(self) -> None:
        while not self._over.wait(5):
            self.look()

    def look(self) -> None:
        now = time.monotonic()
        for kind, pid in self._processes():
            if size := _memory_of(pid):
                life = self.lives.setdefault((pid, kind), Life(kind, now, now, size, size, size))
                # What it holds when it has just begun is not what it needs.
                if now - life.first_seen < 20:
                    life.first = max(life.first, size)
                life.last_seen, life.last, life.peak = now, size, max(life.peak, size)

    def chosen(self) -> list[Life]:
        """Return the process of each kind that lived longest; of workers, which are replaced, which grew most."""
        kinds = sorted({life.kind for life in self.lives.values()})
        of = {kind: [life for life in self.lives.values() if life.kind == kind] for kind in kinds}
        return [
            max(lives, key=lambda life: life.growth if life.kind.endswith("worker") else life.seconds)
            for lives in of.values()
        ]

    def _processes(self) -> Iterator[tuple[str, int]]:
        for name in (*self._site.programs, *self._site.steady):
            with suppress(KeyError, OSError):
                is_web = name.endswith("web")
                shown = ("steady " if name in self._site.steady else "") + ("web" if is_web else "cluster")
                first = self._site.pid(name)
                yield f"{shown}: first process", first
                for second in children_of(first):
                    yield f"{shown}: {'process' if is_web else 'guard'}", second
                    for third in () if is_web else children_of(second):
                        if third not in self._kinds:
                            self._kinds |= self._site.kinds(name)
                        if third in self._kinds:
                            yield f"{shown}: {self._kinds[third]}", third


def _memory_of(pid: int) -> float:
    """Return the MiB of memory that a process has to itself or shares; 0 where it has ended."""
    with suppress(OSError, ValueError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) / 1024
    return 0.0
