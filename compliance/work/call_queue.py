"""The queue of rows that are due for a call to a client: callbacks and look-ups, each in a table of its own.

One worker at a time leases some (`common.leases`), a fair share of each chatbot, and records the outcomes.

A table of conversations can be distributed (docs/explanation/citus.md). So each statement has the chatbots in its
conditions, and statements about rows of several chatbots are run place by place. An UPDATE has no volatile function,
and no time in its CASEs or its RETURNING: conditions on the time are evaluated where the rows are locked.
"""

import random
import ssl
import time
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, ClassVar, Generic, NamedTuple, TypeVar
from uuid import UUID

from django.db import connection, transaction

from chatbots.callback_secrets import Signers
from chatbots.callback_urls import receiver_of
from chatbots.models import Resolver
from common.db import array, execute, fetch, fetch_in_index_order, local_settings, lock_until_commit
from common.guarded_calls import Answer, GuardedPost
from common.leases import Lease, back_off, max_long_workers, random_wait
from common.storage.breaker import Breaker
from compliance.work.sql import IS_OPEN
from conversations.placement import by_place, find_by_index, machines

# By chatbot: a host may serve several, with failures of their own.
Receiver = tuple[int, str]

# The calls of one chatbot at a time: a slow receiver must not hold all threads.
PER_CHATBOT = 4
# The number of rows for a resting receiver that are postponed at a time.
MOST_PUT_OFF = 5_000
SECONDS_TO_TAKE = 1.0

# One worker at a time checks whether it may call, and leases rows.
_MESSENGER_LOCK = 0x6463_636D  # "dccm"
_TOKENS = """
SELECT token FROM compliance_callback
 WHERE token IS NOT NULL AND token <> %(token)s AND next_attempt_at > clock_timestamp()
"""
# In the order of the index of leased rows: otherwise PostgreSQL would read all rows of the chatbots.
_TOKENS_OF_LOOKUPS = """
SELECT token FROM conversations_identitylookup
 WHERE token IS NOT NULL AND token <> %(token)s AND next_attempt_at > clock_timestamp()
   AND chatbot_id = ANY(%(chatbots)s::bigint[])
 ORDER BY token
"""

_TAKE = """
WITH picked AS (
    SELECT chosen.id
      FROM unnest(%(chatbots)s::bigint[], %(shares)s::int[]) AS due(chatbot_id, share)
     CROSS JOIN LATERAL (
        SELECT c.id
          FROM {table} c
         WHERE c.chatbot_id = ANY(%(chatbots)s::bigint[]) AND c.chatbot_id = due.chatbot_id AND c.state = '{waits}'
           AND c.next_attempt_at <= statement_timestamp() AND {only}
         ORDER BY c.next_attempt_at
         LIMIT due.share
           FOR UPDATE OF c SKIP LOCKED
     ) AS chosen
)
UPDATE {table} c
   SET token = %(token)s, next_attempt_at = statement_timestamp() + %(lease)s::interval
  FROM picked WHERE {in_place} AND c.id = picked.id
RETURNING c.id, c.chatbot_id, c.attempts
"""
# Skips locked rows to avoid a deadlock: an erasure deletes look-ups in an order of its own, and intake queues several
# anew. The rows that they have locked are not the worker's any more.
_RECORD = """
WITH ending AS (
    SELECT * FROM unnest(%(ids)s::{key}[], %(states)s::text[], %(errors)s::text[], %(statuses)s::int[],
                         %(waits)s::interval[]) AS one(id, state, error, status, wait)
), held AS (
    SELECT c.id, CASE WHEN e.state = '{waits}' AND c.give_up_at <= statement_timestamp() THEN '{gives_up}'
                      ELSE e.state END AS state,
           coalesce(e.error, c.last_error) AS last_error, e.status,
           least(c.give_up_at, statement_timestamp() + e.wait) AS again_at,
           statement_timestamp() AS at, statement_timestamp() + %(kept)s::interval AS expires_at
      FROM ending e
      JOIN {table} c ON c.id = e.id
     WHERE c.chatbot_id = ANY(%(chatbots)s::bigint[]) AND c.token = %(token)s
       FOR UPDATE OF c SKIP LOCKED
)
UPDATE {table} c
   SET token = NULL, attempts = c.attempts + %(calls)s, last_error = held.last_error, state = held.state,
       next_attempt_at = CASE WHEN held.state = '{waits}' THEN held.again_at END, {changes}
  FROM held
 WHERE {in_place} AND c.id = held.id
RETURNING {reported}
"""
_DROP = """
DELETE FROM {table}
 WHERE chatbot_id = ANY(%(chatbots)s::bigint[]) AND id = ANY(ARRAY(
       SELECT c.id FROM {table} c
        WHERE c.chatbot_id = ANY(%(chatbots)s::bigint[]) AND c.id = ANY(%(ids)s::{key}[]) AND c.token = %(token)s
          FOR UPDATE SKIP LOCKED))
"""


class Row(NamedTuple):
    """A leased row before it is read."""

    id: Any
    chatbot_id: int
    attempts: int


# A leased row with these of its columns and a `url`. (Without a bound: mypy does not find a model's attributes in
# time.)
Due = Any
_Due = TypeVar("_Due", bound=Due)
_Outcome = TypeVar("_Outcome")


@dataclass(eq=False, repr=False)
class Call(Generic[_Outcome]):
    """One signed call, which a thread makes. Nothing of it happens after its `deadline` (of `time.monotonic`).

    `read` returns the outcome of an answer, and raises nothing.
    """

    post: GuardedPost
    agent: str
    message_id: UUID
    body: bytes
    signers: Signers
    read: Callable[[Answer], _Outcome]

    @property
    def deadline(self) -> float:
        return self.post.deadline

    def run(self) -> _Outcome:
        """Make the call in a thread, without the database. Raises nothing."""
        timestamp = str(int(time.time()))
        headers = self.signers.headers(message_id=self.message_id, timestamp=timestamp, body=self.body)
        return self.read(self.post.run(body=self.body, headers={"User-Agent": self.agent, **headers}))

    def run_in_time(self) -> _Outcome:
        """Make the call, and leave it to its thread at its deadline."""
        thread = ThreadPoolExecutor(1, thread_name_prefix="trial")
        try:
            running = thread.submit(self.run)
            wait([running], timeout=max(0.0, self.deadline - time.monotonic()))
            return running.result() if running.done() else self.partial_result()
        finally:
            thread.shutdown(wait=False)

    def partial_result(self) -> _Outcome:
        """Return the outcome of a call that is still running at its deadline, because its name is being resolved."""
        return self.read(self.post.partial_result())


class Ending(NamedTuple):
    """The outcome of a row. A waiting one is retried, or given up once it was tried for long enough.

    Without an `error` the last one is kept.
    """

    state: str
    error: str | None = ""
    status: int | None = None  # of the answer


class Receivers:
    """A breaker for each receiver that failed lately, in this process' memory."""

    def __init__(self) -> None:
        self._breakers: defaultdict[Receiver, Breaker] = defaultdict(Breaker)

    def pause_seconds(self, receiver: Receiver) -> float:
        """Return the seconds for which a receiver must not be called; 0 if it may be called."""
        return self._breakers[receiver].seconds_left if receiver in self._breakers else 0.0

    def answered(self, receiver: Receiver) -> None:
        self._breakers.pop(receiver, None)

    def failed(self, receiver: Receiver) -> None:
        # Calls that ran at the same time count as one more failure.
        if not self.pause_seconds(receiver):
            self._breakers[receiver].failed()

    def forget(self) -> None:
        self._breakers.clear()


class Queue(ABC, Generic[_Due, _Outcome]):
    """The rows that are due for a call. `token` is a turn's; it writes nothing to rows that it has lost.

    `c` is a row of the table in the texts of SQL, and `held` its recorded outcome.
    """

    name: ClassVar[str]  # of the threads
    receivers: ClassVar[Receivers]
    model: ClassVar[type[Lease]]
    waits: ClassVar[str]  # the states of waiting rows, and of rows that were given up
    gives_up: ClassVar[str]
    rests: ClassVar[str]  # the error of a row that was not tried, since its receiver rests
    first_wait: ClassVar[timedelta]
    longest_wait: ClassVar[timedelta]
    may_go: ClassVar[str] = "TRUE"
    is_of_receiver: ClassVar[str] = "TRUE"
    in_place: ClassVar[str] = "c.chatbot_id = ANY(%(chatbots)s::bigint[])"
    changes: ClassVar[str]
    reported: ClassVar[str]

    @property
    def kept(self) -> timedelta:
        """The time for which a row is kept after its end, for `held.expires_at`."""
        return timedelta()

    @abstractmethod
    def due_chatbots(self) -> Collection[int]:
        """Return the chatbots with due rows that may be called."""

    @abstractmethod
    def read(self, token: UUID, rows: Sequence["Row"]) -> Sequence[_Due]:
        """Return those of the rows just leased that are to be called, and end or drop the others."""

    @abstractmethod
    def call(self, due: _Due, *, signers: Signers, tls: ssl.SSLContext) -> Call[_Outcome]:
        """Return the call of a row, not begun."""

    @abstractmethod
    def unsigned(self, code: str) -> _Outcome:
        """Return the outcome of a call that is not made, since no key can sign it."""

    @abstractmethod
    def note(self, token: UUID, outcomes: Sequence[tuple[_Due, _Outcome]]) -> None:
        """Record outcomes."""

    @abstractmethod
    def recorded(self, rows: Sequence[tuple[Any, ...]]) -> None:
        """Process endings, in the transaction that has recorded them. Rows are as `reported`."""

    @abstractmethod
    def has_answered(self, outcome: _Outcome) -> bool | None:
        """Return whether the receiver works; None if the outcome does not show it."""

    def receiver_of(self, due: _Due) -> Receiver:
        return due.chatbot_id, receiver_of(due.url) or ""

    def take(self, token: UUID, *, room: int, busy: Mapping[int, int]) -> Sequence[_Due]:
        """Lease rows, at most `room`; `busy` is the number of running calls of each chatbot.

        Nothing is leased while the maximum number of other workers call. Rows that need no call are ended on the way,
        as many as a second allows.
        """
        end = time.monotonic() + SECONDS_TO_TAKE
        taken: Sequence[_Due] = []
        while not taken and time.monotonic() < end:
            with transaction.atomic():
                due = self.due_chatbots()
                shared = shares(due, room=room, busy=busy) if due and may_take(token) else {}
                rows = self._lease(token, shared, only=self.may_go)
                if not rows:
                    break
                taken = self.read(token, rows)
        return taken

    def end(self, token: UUID, endings: Iterable[tuple[Due, Ending]], *, calls: int = 1) -> None:
        """Record the outcomes of rows, after this number of `calls` of each."""
        rows = {
            one.id: (one.chatbot_id, ending, random_wait(self._back_off(one.attempts))) for one, ending in endings
        }
        with transaction.atomic():
            self.recorded(self._record(token, rows, calls=calls))

    def release(self, token: UUID, rows: Iterable[Due]) -> None:
        """Let other workers lease the rows at the end of the lease: leased rows would keep workers from calling."""
        lease = self.model.lease
        with transaction.atomic():
            self._record(token, {one.id: (one.chatbot_id, Ending(self.waits, None), lease) for one in rows}, calls=0)

    def postpone(self, token: UUID, taken: Iterable[Due], *, receiver: Receiver, seconds: float) -> None:
        """Postpone the rows of a resting receiver: leased ones and other due ones, many at a time.

        No attempt is lost. Rows that were tried for long enough are given up, though they were not tried just now.
        """
        chatbot_id, origin = receiver
        ending = chatbot_id, Ending(self.waits, self.rests), timedelta(seconds=seconds)
        with transaction.atomic():
            due = self._lease(token, {chatbot_id: MOST_PUT_OFF}, only=self.is_of_receiver, receiver=f"{origin}/")
            rows = {one.id: ending for one in (*taken, *due)}
            self.recorded(self._record(token, rows, calls=0))

    def drop(self, token: UUID, rows: Iterable[Due]) -> None:
        """Delete rows that are not needed any more."""
        for ids, chatbots in _places({one.id: one.chatbot_id for one in rows}):
            execute(self._sql(_DROP), {"token": token, "ids": array(ids), "chatbots": chatbots})

    def _lease(self, token: UUID, shares_of: Mapping[int, int], *, only: str, **values: str) -> list[Row]:
        """Lease due rows of these chatbots, a share of each at most, in the index's order without a sort."""
        rows = []
        for together in by_place({chatbot: chatbot for chatbot in shares_of}):
            values |= {"chatbots": array(together), "shares": array(shares_of[chatbot] for chatbot in together)}
            given = {"token": token, "lease": self.model.lease, **values}
            rows += [Row(*row) for row in fetch_in_index_order(self._sql(_TAKE, only=only), given)]
        return rows

    def _back_off(self, attempts: int) -> timedelta:
        return back_off(attempts, first=self.first_wait, longest=self.longest_wait)

    def _record(
        self, token: UUID, rows: Mapping[Any, tuple[int, Ending, timedelta]], *, calls: int
    ) -> list[tuple[Any, ...]]:
        if not rows:
            return []
        find_by_index()
        # PostgreSQL expects one row for a token. If it looked the rows up for each of thousands of postponed ones, it
        # would read them as often.
        execute(local_settings(enable_hashjoin="on"))
        recorded = []
        for ids, chatbots in _places({one: chatbot_id for one, (chatbot_id, _, _) in rows.items()}):
            endings = [rows[one][1] for one in ids]
            values = {
                "token": token,
                "calls": calls,
                "kept": self.kept,
                "chatbots": chatbots,
                "ids": array(ids),
                "states": [str(ending.state) for ending in endings],
                "errors": [ending.error and str(ending.error) for ending in endings],
                "statuses": [ending.status for ending in endings],
                "waits": [rows[one][2] for one in ids],
            }
            # By the token alone: without statistics PostgreSQL would combine it with all rows of the chatbots.
            recorded += fetch_in_index_order(self._sql(_RECORD), values)
        return recorded

    def _sql(self, statement: str, *, only: str = "") -> str:
        return statement.format(
            table=self.model._meta.db_table,
            key=self.model._meta.pk.rel_db_type(connection),
            waits=self.waits,
            gives_up=self.gives_up,
            changes=self.changes,
            reported=self.reported,
            in_place=self.in_place,
            only=only,
        )


def may_take(token: UUID) -> bool:
    """Return whether a turn may lease rows, in the transaction that leases them: one worker at a time does.

    The number of calling workers is limited over all queues: one worker of a cluster is always left for requests.
    """
    lock_until_commit(_MESSENGER_LOCK)
    chatbots = machines.reachable(Resolver.objects.values_list("pk", flat=True))
    at_work, tokens = "", _TOKENS
    if chatbots:
        at_work = f"WITH of_lookups AS MATERIALIZED ({_TOKENS_OF_LOOKUPS})"
        tokens += "UNION SELECT token FROM of_lookups"
    [(others, is_open)] = fetch(
        f"{at_work} SELECT count(DISTINCT token), {IS_OPEN} FROM ({tokens}) AS at_work",
        {"token": token, "chatbots": array(chatbots)},
    )
    return bool(is_open and others < max_long_workers())


def shares(due: Iterable[int], *, room: int, busy: Mapping[int, int]) -> dict[int, int]:
    """Return how many rows of which chatbots may be leased. With more chatbots than room, a random sample.

    Each chatbot gets an equal share, so no backlog delays another chatbot.
    """
    free = {chatbot: PER_CHATBOT - busy.get(chatbot, 0) for chatbot in due}
    waiting = [chatbot for chatbot, most in free.items() if most > 0]
    picked = random.sample(waiting, min(room, len(waiting)))
    return {chatbot: min(free[chatbot], room // len(picked)) for chatbot in picked}


def _places(chatbot_of: Mapping[Any, int]) -> Iterator[tuple[list[Any], str]]:
    """Yield the ids of rows that live in one place, and their chatbots as an array."""
    for ids in by_place(chatbot_of):
        yield ids, array({chatbot_of[one] for one in ids})
