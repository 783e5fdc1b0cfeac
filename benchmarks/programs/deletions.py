"""Many queued deletions, by one cluster of two workers, against the best set-wise SQL.

A chatter has 5 conversations of 10 messages. Filing is not measured. The floor finds the conversations and
erases the same rows and fields, on one connection, in a session set for it, and does nothing else: no request,
change log, ledger or second look. Both erase the chatters in the same order, which is not that of the tables.
"""

import random
import time
from itertools import product
from statistics import median

from psycopg import Connection
from uuid_utils.compat import uuid7

from benchmarks import world
from benchmarks.erasing import ERASE
from benchmarks.filing import file, wait
from benchmarks.filling import FilledChatbot, fill
from benchmarks.results import Result, Run
from benchmarks.running import cluster

# One round trip: find the conversations, erase what hangs on them, empty the rest.
_ERASE = """
WITH conversation AS MATERIALIZED (
    SELECT DISTINCT conversation_id AS id FROM conversations_identity
     WHERE chatbot_id = %(chatbot)s AND variable_id = %(variable)s AND digest = ANY(%(digests)s::bytea[])
), message AS (
    DELETE FROM conversations_message m USING conversation c WHERE m.conversation_id = c.id
), identity AS (
    DELETE FROM conversations_identity i USING conversation c WHERE i.conversation_id = c.id
), word AS (
    DELETE FROM conversations_nameword w USING conversation c WHERE w.conversation_id = c.id
)
UPDATE conversations_conversation
   SET external_id = NULL, uci_variable_id = NULL, language = NULL, user_name = NULL, last_message_at = NULL,
       message_count = NULL, csat_comment = NULL, deletion_request_id = %(request)s, deleted_at = now(),
       started_at = date_trunc('day', started_at AT TIME ZONE 'UTC') AT TIME ZONE 'UTC'
  FROM conversation c WHERE conversations_conversation.id = c.id
"""
# The same in five, by arrays (`erasing.ERASE`).
_FIND = """
SELECT conversation_id FROM conversations_identity
 WHERE chatbot_id = %(chatbot)s AND variable_id = %(variable)s AND digest = ANY(%(digests)s::bytea[])
"""
# Keeps the planner at the indexes when a hundred chatters look like half of the table.
_SESSION = {
    "as it is": (),
    "by index": ("SET enable_hashjoin = off", "SET enable_mergejoin = off", "SET enable_seqscan = off"),
}
_FORMS = ("arrays", "one statement")
_SIZES = (100, 200, 500)

Way = tuple[int, str, str]


def run(run: Run) -> None:
    chatters = run.size(10_000, 1_000)
    way = find_fastest(run, chatters)
    single = seconds_of_floor(fresh(chatters), (1, *way[1:]))
    floors, ours, costs, peaks = [], [], [], []
    for _ in range(run.rounds(3)):
        floors.append(seconds_of_floor(fresh(chatters), way))
        seconds, cost, peak = by_cluster(fresh(chatters))
        ours.append(seconds)
        costs.append(cost)
        peaks.append(peak)
        run.log(f"floor {floors[-1]:.2f} s, ours {ours[-1]:.2f} s, CPU {cost:.2f} s")
    seconds, cost, peak = median(ours), median(costs), max(peaks)
    run.add(Result("queued deletions", chatters, median(floors), seconds, 2.0, cpu_s=cost, peak_mib=peak))
    run.note(
        f"queued deletions a second: floor {chatters / median(floors):,.0f} ({way[0]} a transaction, {way[1]}, "
        f"planner {way[2]}), plain SQL with one transaction a request {chatters / single:,.0f}, "
        f"ours {chatters / median(ours):,.0f}"
    )


def fresh(chatters: int) -> FilledChatbot:
    """Fill empty tables; the chatters come back in an order that is always the same and not that of the rows."""
    world.empty()
    filled = fill("acme", chatters=chatters)
    random.Random(0).shuffle(filled.values)  # noqa: S311
    world.settle()
    return filled


def by_cluster(filled: FilledChatbot) -> tuple[float, float, float]:
    """Erase all chatters by a cluster; return the seconds, those of all processors, and its peak memory in MiB."""
    with cluster() as workers:
        file(filled, filled.values)
        before = workers.all_cpu_seconds()
        return wait(filled), workers.all_cpu_seconds() - before, workers.peak_mib()


def find_fastest(run: Run, chatters: int) -> Way:
    """Try each form of the floor twice, on tables of the real size; return the quickest."""
    if run.quick:
        return 100, "arrays", "by index"
    pace: dict[Way, float] = {}
    for size in _SIZES:
        filled = fresh(chatters)
        trials = [(size, form, session) for form, session in product(_FORMS, _SESSION)] * 2
        share = chatters // len(trials)
        for number, way in enumerate(trials):
            seconds = seconds_of_floor(filled, way, filled.values[number * share : (number + 1) * share])
            pace[way] = min(seconds / share, pace.get(way, seconds))
    for (size, form, session), seconds in pace.items():
        run.log(f"trial: {size} a transaction, {form}, planner {session}: {1 / seconds:,.0f} a second")
    return min(pace, key=lambda way: pace[way])


def seconds_of_floor(filled: FilledChatbot, way: Way, values: list[str] | None = None) -> float:
    """Erase these chatters, or all, in this way of writing it; return the seconds."""
    size, form, session = way
    # As in the requests before the clock starts.
    digests = [filled.digest_of(value) for value in values or filled.values]
    erase = _by_arrays if form == "arrays" else _at_once
    with world.plain_connection() as connection:
        for statement in _SESSION[session]:
            connection.execute(statement)
        connection.commit()
        began = time.perf_counter()
        for start in range(0, len(digests), size):
            erase(connection, filled, digests[start : start + size])
            connection.commit()
        return time.perf_counter() - began


def _at_once(connection: Connection, filled: FilledChatbot, digests: list[bytes]) -> None:
    arguments = {"chatbot": filled.chatbot, "variable": filled.variable, "digests": digests, "request": uuid7()}
    connection.execute(_ERASE, arguments, prepare=True)


def _by_arrays(connection: Connection, filled: FilledChatbot, digests: list[bytes]) -> None:
    who = {"chatbot": filled.chatbot, "variable": filled.variable, "digests": digests}
    rows = connection.execute(_FIND, who, prepare=True)
    arguments = {"ids": [row[0] for row in rows], "request": uuid7()}
    with connection.pipeline():
        for statement in ERASE:
            connection.execute(statement, arguments, prepare=True)
