"""The cost of one deletion of 50 messages, as ever more messages are stored, against itself where few are.

Each is filed by itself and carried out by `process_requests` in this process, so that no poll interval and no
other worker is in the figure; medians of many. Each size has a database of its own on the same server, and they
take turns, so that the machine's noise meets all alike.
"""

import io
import random
from statistics import median
from time import perf_counter

from django.core.management import call_command

from benchmarks import world
from benchmarks.filing import NotCompleted, are_completed, file
from benchmarks.filling import FilledChatbot, fill
from benchmarks.results import Result, Run

_OF_A_CHATTER = 50
_IN_A_TURN = 5


def run(run: Run) -> None:
    sizes = [5_000, 20_000] if run.quick else [100_000, 1_000_000, 10_000_000]
    databases = {size: f"messages_{size}" for size in sizes}
    seconds: dict[int, list[float]] = {size: [] for size in sizes}
    with world.copies(list(databases.values())):
        filled = {size: _filled(database, size) for size, database in databases.items()}
        for turn in range(run.rounds(20, 1)):
            for size, database in databases.items():
                world.use(database)
                # The first one opens the connection and warms what is cached in it.
                start = turn * (_IN_A_TURN + 1)
                took = [_one_deletion(filled[size], value) for value in filled[size].values[start:][: _IN_A_TURN + 1]]
                seconds[size] += took[1:]
    for size in sizes:
        run.log(f"{size:,} messages: {median(seconds[size]) * 1000:.1f} ms")
    for size in sizes[1:]:
        name = f"one deletion, growth from {sizes[0]:,} messages to"
        run.add(Result(name, size, median(seconds[sizes[0]]), median(seconds[size]), 1.25))


def _filled(database: str, size: int) -> FilledChatbot:
    """Fill a database; the chatters come back in an order that is not that of the rows."""
    world.use(database)
    filled = fill("acme", chatters=size // _OF_A_CHATTER)
    random.Random(0).shuffle(filled.values)  # noqa: S311
    world.settle()
    return filled


def _one_deletion(filled: FilledChatbot, value: str) -> float:
    file(filled, [value])
    began = perf_counter()
    call_command("process_requests", stdout=io.StringIO())
    seconds = perf_counter() - began
    if not are_completed(filled):
        raise NotCompleted("A deletion was not carried out when `process_requests` returned.")
    return seconds
