"""Queued deletions by two clusters on one database, against one cluster: the ratio of their rates.

If the machine has no cores left for the second one, it gains little: the notes list the use of the processor.
"""

import time
from contextlib import ExitStack
from dataclasses import astuple, dataclass
from statistics import median

from benchmarks.filing import file, wait
from benchmarks.programs.deletions import fresh
from benchmarks.results import Result, Run
from benchmarks.running import Program, cluster, database_cpu_seconds, machine_cpu_seconds, storage_cpu_seconds


@dataclass(frozen=True)
class Usage:
    """Seconds so far: of the clock, and of the processor by user."""

    clock: float
    workers: float
    database: float
    storage: float
    busy: float
    whole: float

    def since(self, before: "Usage") -> "Usage":
        return Usage(*(now - then for now, then in zip(astuple(self), astuple(before), strict=True)))


def run(run: Run) -> None:
    chatters = run.size(10_000, 1_000)
    used: dict[int, list[Usage]] = {1: [], 2: []}
    peaks = []
    for _ in range(run.rounds(3)):
        for number, rounds in used.items():
            one, peak = _round(chatters, number)
            rounds.append(one)
            peaks.append(peak)
            run.log(f"{number} of them: {chatters / one.clock:,.0f} deletions a second")
    seconds = {number: median(one.clock for one in rounds) for number, rounds in used.items()}
    run.add(Result("two clusters, deletions", chatters, seconds[1], seconds[2], 1.5, "over", max(peaks)))
    for number, rounds in used.items():
        one = sorted(rounds, key=lambda each: each.clock)[len(rounds) // 2]
        run.note(
            f"deletions by {number} of the clusters: {chatters / one.clock:,.0f} a second in {one.clock:.2f} s; "
            f"processor seconds: workers {one.workers:.2f}, PostgreSQL {one.database:.2f}, "
            f"S3 server {one.storage:.2f}, the whole machine {one.busy:.2f} of {one.whole:.2f}"
        )


def _round(chatters: int, number: int) -> tuple[Usage, float]:
    filled = fresh(chatters)
    with ExitStack() as stack:
        clusters = [stack.enter_context(cluster()) for _ in range(number)]
        file(filled, filled.values)
        before = _used(clusters)
        wait(filled)
        return _used(clusters).since(before), max(one.peak_mib() for one in clusters)


def _used(clusters: list[Program]) -> Usage:
    workers = sum(one.cpu_seconds() for one in clusters)
    return Usage(time.perf_counter(), workers, database_cpu_seconds(), storage_cpu_seconds(), *machine_cpu_seconds())
