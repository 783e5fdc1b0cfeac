"""Queued deletions of chatters who are in daily extracts, which are rebuilt before a deletion completes.

The chatbot has a hosted file for each of ten days, and each chatter was there on five of them. Half of the chatters
are erased, so that each file has to be rebuilt and still holds half of what it held. The floor erases them as that
of `deletions` does, then makes each day once as that of `daily_extract` does, one after the other. That both leave
the same files is checked.
"""

import random
import time
from datetime import UTC, date, datetime, timedelta
from statistics import median

from benchmarks import extracting, world
from benchmarks.exporting import FloorDiffers
from benchmarks.filing import file, wait
from benchmarks.filling import FilledChatbot, fill
from benchmarks.programs.deletions import Way, find_fastest, seconds_of_floor
from benchmarks.results import Result, Run
from benchmarks.running import cluster
from chatbots.buckets import hosted_storage
from chatbots.models import Chatbot
from compliance.cluster import notify
from conversations.extracts import days
from conversations.models import DailyExtract

_DAYS = 10
_CONVERSATIONS = 5
_ONE_DAY = timedelta(days=1)

# Of each day the SHA-256 of its file.
Files = dict[date, str]


def run(run: Run) -> None:
    chatters = run.size(10_000, 200)
    way = find_fastest(run, chatters)
    floors, ours, peaks = [], [], []
    for _ in range(run.rounds(3)):
        seconds, files = _floor(_fresh(chatters), way)
        floors.append(seconds)
        seconds, peak = _by_cluster(_fresh(chatters), files)
        ours.append(seconds)
        peaks.append(peak)
        run.log(f"floor {floors[-1]:.2f} s, ours {ours[-1]:.2f} s")
    name = "queued deletions, days rebuilt"
    run.add(Result(name, chatters // 2, median(floors), median(ours), None, peak_mib=max(peaks)))
    run.note(
        f"deletions with {_DAYS} days to be made again, a second: floor {chatters / 2 / median(floors):,.0f}, "
        f"ours {chatters / 2 / median(ours):,.0f}"
    )


def _fresh(chatters: int) -> FilledChatbot:
    world.empty()
    apart = _DAYS * _ONE_DAY // timedelta(seconds=1) // (chatters * _CONVERSATIONS)
    filled = fill("acme", chatters=chatters, conversations=_CONVERSATIONS, apart=apart)
    random.Random(0).shuffle(filled.values)  # noqa: S311
    world.settle()
    return filled


def _half(filled: FilledChatbot) -> list[str]:
    return filled.values[: len(filled.values) // 2]


def _floor(filled: FilledChatbot, way: Way) -> tuple[float, Files]:
    files = {}
    first = datetime.combine(_first_day(), datetime.min.time(), tzinfo=UTC)
    with world.plain_connection(autocommit=True) as connection:
        began = time.perf_counter()
        seconds_of_floor(filled, way, _half(filled))
        for starts_at in (first + number * _ONE_DAY for number in range(_DAYS)):
            files[starts_at.date()] = extracting.upload(
                connection,
                world.SCRATCH / "day.csv",
                chatbot=filled.chatbot,
                starts_at=starts_at,
                ends_at=starts_at + _ONE_DAY,
            )
        seconds = time.perf_counter() - began
    hosted_storage().purge(extracting.KEY)
    return seconds, files


def _by_cluster(filled: FilledChatbot, expected: Files) -> tuple[float, float]:
    """Erase half of the chatters; return the seconds and the peak memory of the workers in MiB.

    Raises FloorDiffers.
    """
    Chatbot.objects.filter(pk=filled.chatbot).update(extracts_enabled=True)
    with cluster() as workers:
        # All days until yesterday, or the sweep would plan what is left of them meanwhile.
        days.plan(filled.chatbot, _first_day(), datetime.now(UTC).date())
        notify.notify_workers()
        extracting.wait(filled.chatbot, every=0.05)
        world.settle()
        workers.forget_peak()
        file(filled, _half(filled))
        seconds = wait(filled)
        peak = workers.peak_mib()
    made = DailyExtract.objects.filter(chatbot=filled.chatbot)
    files = dict(made.filter(day__in=expected).values_list("day", "sha256"))
    for key in made.values_list("key", flat=True):
        hosted_storage().purge(str(key))
    if files != expected:
        raise FloorDiffers("Ours and the floor have left different files.")
    return seconds, peak


def _first_day() -> date:
    return datetime.now(UTC).date() - timedelta(days=60)
