"""Watches the processes and the tables: what they hold at the beginning, and at the end."""

import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from scripts.processes import children_of
from tests.faults.site import Site

_MIB = 1024 * 1024
_TABLES = """
SELECT relname, pg_total_relation_size(relid), n_live_tup, n_dead_tup, autovacuum_count
  FROM pg_stat_user_tables ORDER BY 2 DESC, 1
"""
_QUEUE = """
SELECT (SELECT count(*) FROM compliance_claim), (SELECT count(*) FROM django_q_ormq),
       (SELECT last_value FROM compliance_claim_id_seq), (SELECT last_value FROM django_q_ormq_id_seq)
"""


@dataclass
class Life:
    """A process that was seen: its memory when it was seen first, and last, in bytes."""

    kind: str
    pid: int
    first_seen: float
    last_seen: float
    first: int
    last: int
    peak: int

    @property
    def seconds(self) -> float:
        return self.last_seen - self.first_seen

    @property
    def growth(self) -> int:
        return self.peak - self.first


class Table(NamedTuple):
    name: str
    size: int
    live: int
    dead: int
    vacuumed: int


class Watcher(threading.Thread):
    """Looks at the memory of all processes of a site now and then."""

    def __init__(self, site: Site, *, over: threading.Event, every: float = 5.0) -> None:
        super().__init__(name="watcher", daemon=True)
        self.lives: dict[int, Life] = {}
        self._kinds: dict[int, str] = {}
        self._site = site
        self._every = every
        self._over = over

    def run(self) -> None:
        while not self._over.wait(self._every):
            self.look()

    def look(self) -> None:
        now = time.monotonic()
        for kind, pid in self._processes():
            size = memory_of(pid)
            if not size:
                continue
            life = self.lives.get(pid)
            if life is None or life.kind != kind:
                # What it holds when it has just begun is not what it needs.
                self.lives[pid] = Life(kind, pid, now, now, size, size, size)
                continue
            if now - life.first_seen < 20:
                life.first = max(life.first, size)
            life.last_seen, life.last, life.peak = now, size, max(life.peak, size)

    def chosen(self) -> list[Life]:
        """Return the process of each kind that lived longest; of workers, which are replaced, which grew most."""
        found: dict[str, Life] = {}
        for life in self.lives.values():
            best = found.setdefault(life.kind, life)
            is_more = life.growth > best.growth if life.kind.endswith("worker") else life.seconds > best.seconds
            if is_more:
                found[life.kind] = life
        return [found[kind] for kind in sorted(found)]

    def _processes(self) -> Iterator[tuple[str, int]]:
        for name in (*self._site.programs, *self._site.steady):
            with suppress(KeyError, OSError):
                kind = "web" if name.endswith("web") else "cluster"
                shown = f"steady {kind}" if name in self._site.steady else kind
                first = self._site.pid(name)
                yield f"{shown}: first process", first
                for second in children_of(first):
                    yield f"{shown}: {'process' if kind == 'web' else 'guard'}", second
                    if kind == "cluster":
                        for third in children_of(second):
                            if third not in self._kinds:
                                self._kinds |= self._site.kinds(name)
                            if third in self._kinds:
                                yield f"{shown}: {self._kinds[third]}", third


def memory_of(pid: int) -> int:
    """Return the bytes of memory that a process has to itself or shares; 0 where it has ended."""
    with suppress(OSError, ValueError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024
    return 0


def tables_of(site: Site) -> list[Table]:
    return [Table(*row) for row in site.sql(_TABLES)]


def queue_of(site: Site) -> dict[str, int]:
    """Return how many claims and tasks there are, and how many there were ever."""
    names = ("claims", "tasks", "claims ever", "tasks ever")
    [row] = site.sql(_QUEUE)
    return dict(zip(names, map(int, row), strict=True))


def shown(value: Any) -> str:
    return f"{value / _MIB:.1f} MiB"
