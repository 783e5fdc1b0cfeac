"""Small requests of a chatbot beside a large request."""

import time
from collections.abc import Callable, Iterator
from uuid import UUID

from benchmarks.filing import are_completed, file, filter_completed, wait
from benchmarks.filling import FilledChatbot

_PAUSE_S = 1.0


def measure_waits(
    small: FilledChatbot, values: Iterator[str], kind: str, *, is_over: Callable[[], bool]
) -> tuple[float, list[float]]:
    """File a small request each second, the first one at once, until `is_over`.

    Returns the seconds until then, and how long each small request waited.
    """
    began = due = time.perf_counter()
    ended = 0.0
    filed: dict[UUID, float] = {}
    waits: list[float] = []
    while not ended or not are_completed(small, kind):
        if not ended and time.perf_counter() >= due:
            (request_id,) = file(small, [next(values)], kind)
            filed[request_id] = time.perf_counter()
            due += _PAUSE_S
        waits += [time.perf_counter() - filed.pop(request_id) for request_id in filter_completed(filed)]
        if not ended and is_over():
            ended = time.perf_counter()
        time.sleep(0.01)
    return ended - began, waits + [time.perf_counter() - since for since in filed.values()]


def measure_wait(small: FilledChatbot, value: str, kind: str) -> float:
    """Return how long a single request waits."""
    time.sleep(0.2)
    file(small, [value], kind)
    return wait(small, kind, every=0.002)
