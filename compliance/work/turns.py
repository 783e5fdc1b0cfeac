"""A worker's turn at calling clients: a few threads call, one looks after the rows.

A receiver that is slow or gone holds up neither other receivers nor the worker: of one chatbot only so many calls are
on their way at a time, a receiver that fails several times in a row is left alone for a while, and a turn is bounded.

What is called, and what becomes of it, is a `Queue`. One turn can serve several, each with threads of its own: calls
of one do not wait for those of another, and all together keep no more workers busy than may be.
"""

import logging
import random
import ssl
import time
from abc import ABC, abstractmethod
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from functools import cached_property
from typing import Any, Generic, Protocol, TypeVar
from uuid import UUID, uuid4

from chatbots.callback_secrets import Signers, signers_of
from chatbots.models import Resolver
from common import outbound
from common.db import BY_INDEX, array, execute, fetch, lock_until_commit
from common.leases import most_workers
from common.storage.breaker import Breaker
from compliance.work.sql import IS_OPEN
from conversations import machines

logger = logging.getLogger(__name__)

Receiver = tuple[int, str]

# No new call is begun later in a turn; those on their way may take as long as a call may.
TURN_SECONDS = 10.0
# For each queue.
THREADS = 32
# In its pool, for each of them. A call that is over may leave its thread to the name service, a few times in a turn;
# one that found no thread would count as a call without an answer.
_THREADS_EACH = 4
# Three times what a call may take: a worker that was killed is known by it.
LEASE_SECONDS = 30
# Of one chatbot at a time: a slow receiver must not hold all threads.
PER_CHATBOT = 4
# While calls are on their way, others are looked for so often.
_LOOK_SECONDS = 0.2

# One worker at a time looks whether it may call, and takes.
_MESSENGER_LOCK = 0x6463_636D  # "dccm"
_TOKENS = """
SELECT token FROM compliance_callback
 WHERE token IS NOT NULL AND token <> %(token)s AND next_attempt_at > clock_timestamp()
"""
# In the order of the index of leased rows: PostgreSQL would read all of the chatbots otherwise.
_TOKENS_OF_LOOKUPS = """
SELECT token FROM conversations_identitylookup
 WHERE token IS NOT NULL AND token <> %(token)s AND next_attempt_at > clock_timestamp()
   AND chatbot_id = ANY(%(chatbots)s::bigint[])
 ORDER BY token
"""


class Due(Protocol):
    """A leased row. Its receiver is the key of a breaker: a host may serve chatbots with separate failures."""

    @property
    def chatbot_id(self) -> int: ...
    @property
    def receiver(self) -> Receiver: ...


_Due = TypeVar("_Due", bound=Due)
_Outcome = TypeVar("_Outcome")
_Outcome_co = TypeVar("_Outcome_co", covariant=True)


class Call(Protocol[_Outcome_co]):
    """One call. Nothing of it happens after `deadline` (of `time.monotonic`)."""

    @property
    def deadline(self) -> float: ...

    def run(self) -> _Outcome_co:
        """Make the call in a thread, without the database. Raises nothing."""

    def so_far(self) -> _Outcome_co:
        """Return the outcome of a call that is not over at its deadline, since a name is still looked up."""


class Receivers:
    """A breaker for each receiver that failed lately, in this process' memory."""

    def __init__(self) -> None:
        self._breakers: defaultdict[Receiver, Breaker] = defaultdict(Breaker)

    def rest_of(self, receiver: Receiver) -> float:
        """Return for how many seconds a receiver must not be called; 0 if it may."""
        return self._breakers[receiver].seconds_left if receiver in self._breakers else 0.0

    def answered(self, receiver: Receiver) -> None:
        self._breakers.pop(receiver, None)

    def failed(self, receiver: Receiver) -> None:
        # Calls that were under way together count as one failure more.
        if not self.rest_of(receiver):
            self._breakers[receiver].failed()

    def forget(self) -> None:
        self._breakers.clear()


class Queue(ABC, Generic[_Due, _Outcome]):
    """Rows that are due for a call. `token` is the turn's; what it has lost to another, it writes nothing to."""

    name: str  # of the threads
    receivers: Receivers

    @abstractmethod
    def take(self, token: UUID, *, room: int, busy: Mapping[int, int]) -> Sequence[_Due]:
        """Lease rows, at most `room`; `busy` says how many calls each chatbot has on their way."""

    @abstractmethod
    def call(self, due: _Due, *, signers: Signers, tls: ssl.SSLContext) -> Call[_Outcome]:
        """Return the call of a row, not begun."""

    @abstractmethod
    def unsigned(self, signers: Signers) -> _Outcome:
        """Return the outcome of a call that is not made, since nothing can sign it."""

    @abstractmethod
    def let_rest(self, token: UUID, taken: Collection[_Due], *, receiver: Receiver, seconds: float) -> None:
        """Put off what would go to a receiver that rests: what was taken, and what else is due."""

    @abstractmethod
    def note(self, token: UUID, outcomes: Sequence[tuple[_Due, _Outcome]]) -> None:
        """Record outcomes."""

    @abstractmethod
    def has_answered(self, outcome: _Outcome) -> bool | None:
        """Return whether the receiver is well; None if the outcome does not tell."""


def run(queues: Iterable[Queue[Any, Any]], *, seconds: float) -> bool:
    """Make the calls that are due until none is, or the time is over; return whether some may be left.

    Nothing is called while other workers see to it. What was on its way when a worker was killed is called again when
    its lease is over. An error with one queue leaves the others their turn, and is raised at its end.
    """
    turn = _Turn(queues, end=time.monotonic() + seconds)
    try:
        return turn.run()
    finally:
        turn.close()


def may_take(token: UUID) -> bool:
    """Return whether a turn may take rows, in a transaction that takes them: one worker at a time does.

    As many workers call as may at a time, whatever the queues: one of a cluster's is always left for requests.
    """
    execute(BY_INDEX)
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
    return bool(is_open and others < most_workers())


def shares(due: Iterable[int], *, room: int, busy: Mapping[int, int]) -> dict[int, int]:
    """Return how many rows may be taken of which of the chatbots. With more chatbots than room, a random sample.

    Each gives an equal share, so no backlog makes another chatbot wait.
    """
    free = {chatbot: PER_CHATBOT - busy.get(chatbot, 0) for chatbot in due}
    waiting = [chatbot for chatbot, most in free.items() if most > 0]
    picked = random.sample(waiting, min(room, len(waiting)))
    return {chatbot: min(free[chatbot], room // len(picked)) for chatbot in picked}


def random_wait(attempts: str, *, first: int, longest: int, random: str = "random()") -> str:
    """Return SQL for the wait before another attempt: random, below a limit that doubles with each of `attempts`."""
    limit = f"least({longest}, {first} * power(2, least({attempts}, 20)))"
    return f"make_interval(secs => 1 + {random} * ({limit} - 1))"


class _Turn:
    def __init__(self, queues: Iterable[Queue[Any, Any]], *, end: float) -> None:
        self._end = end
        token = uuid4()
        self._lanes = [_Lane(queue, token, self) for queue in queues]
        self._error: Exception | None = None

    def run(self) -> bool:
        while True:
            is_over = time.monotonic() >= self._end
            found = 0
            for lane in list(self._lanes):
                found += self._try(lane, lane.begin_some) if not is_over else 0
            if any(lane.calls for lane in self._lanes):
                self._wait()
                for lane in list(self._lanes):
                    self._try(lane, lane.note_ended)
            elif not found:
                if self._error:
                    raise self._error
                return is_over

    def close(self) -> None:
        """Leave what is still on its way to its threads, if an error ended the turn: the leases run out."""
        for lane in self._lanes:
            lane.close()

    def _try(self, lane: "_Lane[Any, Any]", step: Any) -> int:
        try:
            found: int = step()
        except Exception as error:
            if len(self._lanes) == 1:
                raise
            logger.exception("turn.failed queue=%s", lane.queue.name)
            self._error = error
            self._lanes.remove(lane)
            lane.close()
            return 0
        return found

    def _wait(self) -> None:
        """Wait a little, or until a call is over: by itself, or because its time is."""
        calls = [call for lane in self._lanes for call in lane.calls.items()]
        left = min(call.deadline for _, (_, call) in calls) - time.monotonic()
        wait(
            [future for future, _ in calls],
            timeout=max(0.0, min(left, _LOOK_SECONDS)),
            return_when=FIRST_COMPLETED,
        )

    @cached_property
    def tls(self) -> ssl.SSLContext:
        """What trusts the certificates that this machine trusts."""
        return outbound.tls_context()


class _Lane(Generic[_Due, _Outcome]):
    """One queue's part of a turn."""

    def __init__(self, queue: Queue[_Due, _Outcome], token: UUID, turn: _Turn) -> None:
        self.queue = queue
        self.calls: dict[Future[_Outcome], tuple[_Due, Call[_Outcome]]] = {}
        self._token, self._turn = token, turn
        self._threads = ThreadPoolExecutor(THREADS * _THREADS_EACH, thread_name_prefix=queue.name)

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)

    def begin_some(self) -> int:
        """Take what is due, and return how many that were."""
        room = THREADS - len(self.calls)
        if not room:
            return 0
        busy = Counter(due.chatbot_id for due, _ in self.calls.values())
        machines.look_if_due()
        taken = self.queue.take(self._token, room=room, busy=busy)
        signers = signers_of({due.chatbot_id for due in taken}) if taken else {}
        unsigned: list[tuple[_Due, _Outcome]] = []
        resting: dict[Receiver, list[_Due]] = {}
        for due in taken:
            signs = signers[due.chatbot_id]
            if self.queue.receivers.rest_of(due.receiver):
                resting.setdefault(due.receiver, []).append(due)
            elif signs.is_nothing or not signs.is_readable:
                unsigned.append((due, self.queue.unsigned(signs)))
            else:
                call = self.queue.call(due, signers=signs, tls=self._turn.tls)
                self.calls[self._threads.submit(call.run)] = (due, call)
        for receiver, put_off in resting.items():
            seconds = self.queue.receivers.rest_of(receiver)
            self.queue.let_rest(self._token, put_off, receiver=receiver, seconds=seconds)
        if unsigned:
            self.queue.note(self._token, unsigned)
        return len(taken)

    def note_ended(self) -> int:
        """Record the calls that are over: by themselves, or because their time is."""
        now = time.monotonic()
        ended: list[tuple[_Due, _Outcome]] = []
        for future, (due, call) in list(self.calls.items()):
            is_done = future.done()
            if is_done or now >= call.deadline:
                del self.calls[future]
                # A late one sends nothing more: what it still waits for is the name service.
                ended.append((due, future.result() if is_done else call.so_far()))
        for due, outcome in ended:
            answered = self.queue.has_answered(outcome)
            if answered:
                self.queue.receivers.answered(due.receiver)
            elif answered is not None:
                self.queue.receivers.failed(due.receiver)
        if ended:
            self.queue.note(self._token, ended)
        return len(ended)
