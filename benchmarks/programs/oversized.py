"""One chatter of five million messages, erased and exported, while another chatbot's small requests go on.

The floor of the deletion is plain SQL, 20,000 messages a transaction; that of the export is COPY to a file and
`upload_file`. Beside the large request a small one is filed every second, the first one at once; the floor of
their wait is the median on the idle cluster before. No target is set.
"""

import time
from collections.abc import Callable
from itertools import cycle
from statistics import median

from benchmarks import world
from benchmarks.beside import measure_wait, measure_waits
from benchmarks.erasing import erase_in_chunks
from benchmarks.exporting import Floor
from benchmarks.filing import are_completed, file
from benchmarks.filling import FilledChatbot, fill
from benchmarks.results import Result, Run
from benchmarks.running import cluster
from benchmarks.watching import longest_transaction
from chatbots.buckets import hosted_storage
from compliance.models import Export

_MESSAGES_OF_A_CONVERSATION = 1_000
_CHUNK = 20_000
_IDLE_SAMPLES = 5

_FIND = (
    "SELECT conversation_id FROM conversations_identity WHERE chatbot_id = %s AND variable_id = %s AND digest = %s"
)


def run(run: Run) -> None:
    messages = run.size(5_000_000, 40_000)
    for kind, floor in (("export", _floor_of_export), ("deletion", _floor_of_deletion)):
        for _ in range(run.rounds(1)):
            _measure(run, messages, kind, floor)


def _measure(
    run: Run, messages: int, kind: str, floor: Callable[[FilledChatbot], tuple[float, float | None]]
) -> None:
    floor_s, floor_longest_s = floor(_fresh(messages))
    oversized = _fresh(messages)
    small = fill("small", chatters=run.size(1_000, 50))
    values = cycle(small.values)
    world.settle()
    with cluster() as workers, longest_transaction() as longest:
        idle = [measure_wait(small, next(values), kind) for _ in range(_IDLE_SAMPLES)]
        workers.forget_peak()
        longest.seconds = 0.0
        file(oversized, oversized.values, kind)
        seconds, waits = measure_waits(small, values, kind, is_over=lambda: are_completed(oversized, kind))
        peak = workers.peak_mib()
    if kind == "export":
        hosted_storage().purge(str(Export.objects.get(chatbot=oversized.chatbot).key))
    run.add(Result(f"oversized {kind}, messages", messages, floor_s, seconds, None, peak_mib=peak))
    run.add(Result(f"oversized {kind}: longest transaction", messages, floor_longest_s, longest.seconds, None))
    run.add(Result(f"oversized {kind}: longest wait beside it", messages, median(idle), max(waits), None))
    run.note(f"oversized {kind}: {len(waits)} small ones went beside it, median wait {median(waits):.2f} s")


def _fresh(messages: int) -> FilledChatbot:
    world.empty()
    oversized = fill(
        "oversized",
        chatters=1,
        conversations=messages // _MESSAGES_OF_A_CONVERSATION,
        messages=_MESSAGES_OF_A_CONVERSATION,
    )
    world.settle()
    return oversized


def _floor_of_deletion(oversized: FilledChatbot) -> tuple[float, float]:
    who = [oversized.chatbot, oversized.variable, oversized.digest_of(oversized.values[0])]
    return erase_in_chunks(_FIND, who, chunk=_CHUNK // _MESSAGES_OF_A_CONVERSATION)


def _floor_of_export(oversized: FilledChatbot) -> tuple[float, None]:
    with world.plain_connection(autocommit=True) as connection:
        floor = Floor(connection, oversized)
        began = time.perf_counter()
        floor.upload(oversized.values[0], world.SCRATCH / "export.csv")
        seconds = time.perf_counter() - began
    hosted_storage().purge(floor.key(oversized.values[0]))
    return seconds, None
