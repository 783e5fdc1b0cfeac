"""The cost of one deletion of 50 messages, as ever more messages are stored, against itself where few are.

Each is filed by itself and carried out by `process_requests` in this process, so that no poll interval and no
other worker is in the figure; medians of many. The smallest size is measured first and once more at the end.
"""

import io
import random
import resource
from statistics import median
from time import perf_counter

from django.core.management import call_command

from benchmarks import world
from benchmarks.filing import are_completed, file
from benchmarks.filling import Filled, fill
from benchmarks.results import Result, Run

_OF_A_CHATTER = 50
_WARM_UP = 5


class NotErased(Exception):
    """A deletion was not carried out when `process_requests` returned."""


def run(run: Run) -> None:
    samples = run.rounds(60, 10)
    sizes = [20_000, 200_000] if run.quick else [100_000, 1_000_000, 10_000_000]
    seconds: dict[int, list[float]] = {}
    stored = 0
    for size in sizes:
        filled = _filled_up(size, stored)
        stored = size
        seconds[size] = _seconds(filled, samples)
        run.tell(f"{size:,} messages: {median(seconds[size]) * 1000:.1f} ms")
    world.empty()
    again = _seconds(_filled_up(sizes[0], 0), samples)
    run.tell(f"{sizes[0]:,} messages again: {median(again) * 1000:.1f} ms")
    floor = median(seconds[sizes[0]] + again)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    for size in sizes[1:]:
        name = f"one deletion, growth from {sizes[0]:,} messages to"
        run.add(Result(name, size, floor, median(seconds[size]), 1.25, peak_mib=peak))


def _filled_up(size: int, stored: int) -> Filled:
    """Add messages until so many are stored, and return the chatbot that they belong to."""
    filled = fill(f"up-to-{size}", chatters=(size - stored) // _OF_A_CHATTER)
    world.settle()
    return filled


def _seconds(filled: Filled, samples: int) -> list[float]:
    chosen = random.Random(0).sample(filled.values, samples + _WARM_UP)  # noqa: S311
    return [_one_deletion(filled, value) for value in chosen][_WARM_UP:]


def _one_deletion(filled: Filled, value: str) -> float:
    file(filled, [value])
    began = perf_counter()
    call_command("process_requests", stdout=io.StringIO())
    seconds = perf_counter() - began
    if not are_completed(filled):
        raise NotErased
    return seconds
