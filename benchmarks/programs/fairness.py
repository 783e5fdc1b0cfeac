"""One chatbot's single deletion, filed behind another chatbot's backlog, against its wait on an idle cluster.

The backlog's chatters have one conversation of 10 messages each, and all of it is filed before the first sample.
A sample counts if the backlog was still there when it was filed. No target is set.
"""

import time
from statistics import median

from benchmarks import world
from benchmarks.filing import are_completed, file, wait
from benchmarks.filling import FilledChatbot, fill
from benchmarks.results import Result, Run
from benchmarks.running import cluster

_SAMPLES = 10
_PAUSE_S = 0.3


def run(run: Run) -> None:
    backlog = run.size(100_000, 2_000)
    many = fill("many", chatters=backlog, conversations=1)
    single = fill("single", chatters=2 * _SAMPLES)
    world.settle()
    with cluster() as workers:
        idle = [_one(single, value) for value in single.values[:_SAMPLES]]
        file(many, many.values)
        waits: list[float] = []
        for value in single.values[_SAMPLES:]:
            if waits and are_completed(many):
                break
            waits.append(_one(single, value))
        wait(many)
        peak = workers.peak_mib()
    run.add(Result("single deletion behind a backlog of", backlog, median(idle), median(waits), None, peak_mib=peak))
    run.note(
        f"single deletion behind a backlog: {len(waits)} samples, longest {max(waits):.2f} s; "
        f"idle {len(idle)} samples, longest {max(idle):.2f} s"
    )


def _one(single: FilledChatbot, value: str) -> float:
    file(single, [value])
    seconds = wait(single, every=0.002)
    time.sleep(_PAUSE_S)
    return seconds
