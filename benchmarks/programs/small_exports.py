"""Many queued exports of 50 messages, by one cluster of two workers, against one COPY and one PUT each.

Filing is not measured. The floor runs the same SELECT into memory and puts the file into the bucket, one chatter
after the other, on one connection each to the database and the bucket. That both write the same bytes is checked.
"""

import time
from statistics import median

from benchmarks import world
from benchmarks.exporting import Floor
from benchmarks.filing import file, wait
from benchmarks.filling import fill
from benchmarks.results import Result, Run
from benchmarks.running import cluster


def run(run: Run) -> None:
    exports = run.size(2_000, 200)
    floors, ours, costs, peaks = [], [], [], []
    for _ in range(run.rounds(3)):
        world.empty()
        filled = fill("acme", chatters=exports)
        world.settle()
        with world.plain_connection(autocommit=True) as connection:
            floor = Floor(connection, filled)
            began = time.perf_counter()
            for value in filled.values:
                floor.put(value)
            floors.append(time.perf_counter() - began)
        with cluster() as workers:
            file(filled, filled.values, "export")
            before = workers.all_cpu_seconds()
            ours.append(wait(filled, "export"))
            costs.append(workers.all_cpu_seconds() - before)
            peaks.append(workers.peak_mib())
        floor.check(filled)
        run.log(f"floor {floors[-1]:.2f} s, ours {ours[-1]:.2f} s")
    cost, peak = median(costs), max(peaks)
    run.add(Result("queued small exports", exports, median(floors), median(ours), 1.5, cpu_s=cost, peak_mib=peak))
    run.note(f"small exports a second: floor {exports / median(floors):,.0f}, ours {exports / median(ours):,.0f}")
