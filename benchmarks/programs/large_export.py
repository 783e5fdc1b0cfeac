"""The export of one chatter with a million messages, against COPY to a file and `upload_file`.

Then the same in all formats, against the CSV alone.

The floor runs the same SELECT into a temporary file, then sends it by boto3's `upload_file`, its threads included.
That both write the same bytes is checked. Memory is what the worker holds beyond what it held before.
"""

import time
from statistics import median

from benchmarks import world
from benchmarks.exporting import Floor
from benchmarks.filing import file, wait
from benchmarks.filling import fill
from benchmarks.results import Result, Run
from benchmarks.running import cluster
from chatbots.buckets import hosted_storage
from compliance.models import Export

_MESSAGES_OF_A_CONVERSATION = 1_000


def run(run: Run) -> None:
    messages = run.size(1_000_000, 100_000)
    floors, ours, costs, peaks, growths = [], [], [], [], []
    formats, formats_costs, formats_growths = [], [], []
    storage = hosted_storage()
    for _ in range(run.rounds(3)):
        world.empty()
        filled = fill(
            "acme",
            chatters=1,
            conversations=messages // _MESSAGES_OF_A_CONVERSATION,
            messages=_MESSAGES_OF_A_CONVERSATION,
        )
        world.settle()
        (value,) = filled.values
        with world.plain_connection(autocommit=True) as connection:
            floor = Floor(connection, filled)
            began = time.perf_counter()
            floor.upload(value, world.SCRATCH / "export.csv")
            floors.append(time.perf_counter() - began)
        storage.purge(floor.key(value))
        with cluster() as workers:
            before = workers.forget_peak()
            spent = workers.all_cpu_seconds()
            began = time.perf_counter()
            file(filled, filled.values, "export")
            wait(filled, "export")
            ours.append(time.perf_counter() - began)
            costs.append(workers.all_cpu_seconds() - spent)
            peaks.append(workers.peak_mib())
            growths.append(peaks[-1] - before)
            before = workers.forget_peak()
            spent = workers.all_cpu_seconds()
            began = time.perf_counter()
            file(filled, filled.values, "export", formats="csv json html")
            wait(filled, "export")
            formats.append(time.perf_counter() - began)
            formats_costs.append(workers.all_cpu_seconds() - spent)
            formats_growths.append(workers.peak_mib() - before)
        export = Export.objects.get(chatbot=filled.chatbot, key__endswith=".csv")
        for other in Export.objects.filter(chatbot=filled.chatbot).exclude(pk=export.pk):
            for key in [other.key, *other.copies.values_list("key", flat=True)]:
                storage.purge(str(key))
            other.delete()
        floor.check(filled)
        storage.purge(str(export.key))
        run.log(f"floor {floors[-1]:.2f} s, ours {ours[-1]:.2f} s, {export.bytes or 0:,} bytes")
    cost, peak = median(costs), max(peaks)
    run.add(Result("large export, messages", messages, median(floors), median(ours), 1.0, cpu_s=cost, peak_mib=peak))
    cost = median(formats_costs)
    run.add(Result("export in all formats, messages", messages, median(ours), median(formats), 3.0, cpu_s=cost))
    run.note(
        f"export in all formats: a worker's memory grew by {max(formats_growths):.0f} MiB (target: less than 100)"
    )
    run.note(
        f"large export: a worker's memory grew by {max(growths):.0f} MiB (target: less than 100); "
        f"messages a second: floor {messages / median(floors):,.0f}, ours {messages / median(ours):,.0f}"
    )
