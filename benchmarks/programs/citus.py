"""Many queued deletions of 32 chatbots on Citus, against the same on one PostgreSQL of its coordinator.

Needs CITUS_URL, as `make citus` does (docs/explanation/testing.md). The floor is one cluster of two workers on a
database of the coordinator that is not distributed. Measured are one on a database of one shard, one on a database of
32 shards, and two clusters on such a one. A chatter has 5 conversations of 10 messages. Filing is not measured.
"""

import io
import random
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from statistics import median
from urllib.parse import quote

from django.core.management import call_command
from django.db import connection, transaction

from benchmarks import world
from benchmarks.filing import file, wait
from benchmarks.filling import FilledChatbot, fill
from benchmarks.results import Result, Run
from benchmarks.running import cluster
from conversations.placement import is_distributed
from scripts import citus_nodes

_CHATBOTS = 32
_DATABASE = "citus_benchmark"
# By the number of shards, None for one PostgreSQL, and of clusters.
_FORMS = {
    "one PostgreSQL": (None, 1),
    "one shard": (1, 1),
    "32 shards": (32, 1),
    "32 shards, two clusters": (32, 2),
}


def run(run: Run) -> None:
    if not citus_nodes.URL:
        run.note("deletions on Citus: not measured, CITUS_URL is not set")
        return
    chatters = run.size(10_000, 640) // _CHATBOTS
    seconds: dict[str, list[float]] = {form: [] for form in _FORMS}
    for _ in range(run.rounds(3)):
        for form, (shards, clusters) in _FORMS.items():
            seconds[form].append(_seconds(chatters, shards=shards, clusters=clusters))
            run.log(f"{form}: {seconds[form][-1]:.2f} s")
    with citus_nodes.connect() as session:
        found = session.execute(
            "SELECT current_setting('server_version'), extversion FROM pg_extension WHERE extname = 'citus'"
        ).fetchone()
    run.note("deletions on Citus: PostgreSQL {}, Citus {}".format(*found or ()))
    floor = median(seconds.pop("one PostgreSQL"))
    for form, ours in seconds.items():
        run.add(Result(f"Citus, {form}", chatters * _CHATBOTS, floor, median(ours), None))


def _seconds(chatters: int, *, shards: int | None, clusters: int) -> float:
    """Return the seconds in which the deletions of all chatters are carried out."""
    with _database(is_plain=shards is None), ExitStack() as stack:
        filled = [fill(f"chatbot-{number}", chatters=chatters) for number in range(_CHATBOTS)]
        if shards:
            call_command("distribute", "--yes", "--shards", str(shards), stdout=io.StringIO())
            is_distributed.cache_clear()
        world.settle()
        for _ in range(clusters):
            stack.enter_context(cluster(environment=_environment()))
        with transaction.atomic():  # so that the workers see all at once
            for each in filled:
                random.Random(0).shuffle(each.values)  # noqa: S311
                file(each, each.values)
        return _wait_for_all(filled)


def _wait_for_all(filled: list[FilledChatbot]) -> float:
    began = time.perf_counter()
    for each in filled:
        wait(each)
    return time.perf_counter() - began


@contextmanager
def _database(*, is_plain: bool) -> Iterator[None]:
    """Use a migrated database of the coordinator meanwhile: one without Citus, or one that is not distributed yet."""
    if is_plain:
        citus_nodes.create_plain(_DATABASE)
    else:
        citus_nodes.create(_DATABASE)
    is_distributed.cache_clear()
    try:
        with citus_nodes.connected(_DATABASE):
            call_command("migrate", verbosity=0)
            yield
    finally:
        is_distributed.cache_clear()
        citus_nodes.drop(_DATABASE)


def _environment() -> dict[str, str]:
    server = connection.settings_dict
    who = quote(server["USER"], safe="") + (f":{quote(server['PASSWORD'], safe='')}" if server["PASSWORD"] else "")
    url = f"postgresql://{who}@{server['HOST']}:{server['PORT']}/{server['NAME']}"
    return {"DJANGO_SETTINGS_MODULE": "benchmarks.citus_settings", "BENCHMARK_DATABASE_URL": url}
