"""The daily extract of a day with a million messages, against COPY to a file and `upload_file`.

The floor runs the same SELECT into a temporary file, then sends it by boto3's `upload_file`, its threads included.
That both write the same bytes is checked. Another chatbot has as many messages on the same day.
"""

import time
from datetime import UTC, datetime, timedelta
from statistics import median

from benchmarks import extracting, world
from benchmarks.exporting import FloorDiffers
from benchmarks.filling import FilledChatbot, fill
from benchmarks.results import Result, Run
from benchmarks.running import cluster
from chatbots.buckets import hosted_storage
from compliance.cluster import notify
from conversations.extracts import days
from conversations.models import DailyExtract

# A conversation begins each second, so 50,000 of them begin on one day, the first of the filling.
_MESSAGES_OF_A_CONVERSATION = 20
_DAYS_AGO = timedelta(days=60)


def run(run: Run) -> None:
    messages = run.size(1_000_000, 100_000)
    floors, ours, costs, peaks, growths = [], [], [], [], []
    storage = hosted_storage()
    for _ in range(run.rounds(3)):
        world.empty()
        chatbot = _fill("acme", messages).chatbot
        _fill("neighbour", messages)
        world.settle()
        day = datetime.now(UTC).date() - _DAYS_AGO
        with cluster() as workers:
            before = workers.forget_peak()
            spent = workers.all_cpu_seconds()
            began = time.perf_counter()
            days.plan(chatbot, day, day)
            notify.notify_workers()
            extracting.wait(chatbot, every=0.002)
            ours.append(time.perf_counter() - began)
            costs.append(workers.all_cpu_seconds() - spent)
            peaks.append(workers.peak_mib())
            growths.append(peaks[-1] - before)
        extract = DailyExtract.objects.get(chatbot=chatbot)
        with world.plain_connection(autocommit=True) as connection:
            began = time.perf_counter()
            sha256 = extracting.upload(
                connection,
                world.SCRATCH / "day.csv",
                chatbot=chatbot,
                starts_at=extract.starts_at,
                ends_at=extract.ends_at,
            )
            floors.append(time.perf_counter() - began)
        if sha256 != extract.sha256:
            raise FloorDiffers("Ours and the floor have written different files.")
        for key in (extracting.KEY, str(extract.key)):
            storage.purge(key)
        run.log(f"floor {floors[-1]:.2f} s, ours {ours[-1]:.2f} s, {extract.rows or 0:,} rows")
    cost, peak = median(costs), max(peaks)
    run.add(Result("daily extract, messages", messages, median(floors), median(ours), 1.0, cpu_s=cost, peak_mib=peak))
    run.note(f"daily extract: a worker's memory grew by {max(growths):.0f} MiB")


def _fill(slug: str, messages: int) -> FilledChatbot:
    return fill(
        slug,
        chatters=1_000,
        conversations=messages // _MESSAGES_OF_A_CONVERSATION // 1_000,
        messages=_MESSAGES_OF_A_CONVERSATION,
    )
