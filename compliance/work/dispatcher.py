"""A worker's turn at calling clients: a few threads call, one manages the rows.

A slow or missing receiver delays neither other receivers nor the worker: the calls of one chatbot at a time are
limited, a receiver that fails several times in a row is not called for a while, and a turn is bounded.

The calls and their outcomes belong to a `Queue`. One turn can serve several, each with threads of its own: calls of
one do not wait for those of another, and together they keep no more workers busy than allowed.
"""

import logging
import ssl
import time
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from functools import cached_property
from typing import Any, Generic, TypeVar
from uuid import UUID, uuid4

from chatbots.callback_secrets import signers_of
from common import outbound
from compliance.work.call_queue import Call, Due, Queue, Receiver
from conversations.placement import machines

logger = logging.getLogger(__name__)

_Due = TypeVar("_Due", bound=Due)
_Outcome = TypeVar("_Outcome")

# No new call begins later in a turn; running ones may take the time of a call.
TURN_SECONDS = 10.0
# For each queue.
THREADS = 32
# The threads in the pool for each call. A call that is over may leave its thread to the name service, a few times in
# a turn; a call without a thread would count as one without an answer.
_THREADS_EACH = 4
# The interval of searches for more calls while calls are running.
_LOOK_SECONDS = 0.2


def run(queues: Iterable[Queue[Any, Any]], *, seconds: float) -> bool:
    """Make the calls that are due until none is, or the time is over; return whether some may be left.

    Makes no call while enough other workers do. Calls of a killed worker are made again when their lease is over. An
    error of one queue does not affect the others, and is raised at the end of the turn.
    """
    end, token = time.monotonic() + seconds, uuid4()
    lanes = [_Lane(queue, token) for queue in queues]
    try:
        while True:
            is_over = time.monotonic() >= end
            found = 0 if is_over else sum(lane.take(lane.start_due) for lane in lanes)
            if any(lane.calls for lane in lanes):
                _wait(lanes)
                for lane in lanes:
                    lane.take(lane.note_ended)
            elif not found:
                break
    finally:
        for lane in lanes:
            lane.close()
    for lane in lanes:
        if lane.error:
            raise lane.error
    return is_over


def _wait(lanes: Iterable["_Lane[Any, Any]"]) -> None:
    """Wait a little, or until a call is over: by itself, or because its time is."""
    calls = [call for lane in lanes for call in lane.calls.items()]
    left = min(call.deadline for _, (_, call) in calls) - time.monotonic()
    wait([future for future, _ in calls], timeout=max(0.0, min(left, _LOOK_SECONDS)), return_when=FIRST_COMPLETED)


class _Lane(Generic[_Due, _Outcome]):
    """One queue's part of a turn."""

    def __init__(self, queue: Queue[_Due, _Outcome], token: UUID) -> None:
        self.queue, self._token = queue, token
        self.calls: dict[Future[_Outcome], tuple[_Due, Call[_Outcome]]] = {}
        self.error: Exception | None = None
        self._threads = ThreadPoolExecutor(THREADS * _THREADS_EACH, thread_name_prefix=queue.name)

    def close(self) -> None:
        """Leave running calls to their threads: the leases run out."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    @cached_property
    def _tls(self) -> ssl.SSLContext:
        """A context with the trusted certificates of this machine."""
        return outbound.tls_context()

    def take(self, step: Callable[[], int]) -> int:
        """Return the result of a step of this lane; 0 if it fails, or a step has failed before."""
        try:
            return 0 if self.error else step()
        except Exception as error:
            logger.exception("turn.failed queue=%s", self.queue.name)
            self.error = error
            self.calls.clear()
            return 0

    def start_due(self) -> int:
        """Lease due rows and start their calls; return their number."""
        room = THREADS - len(self.calls)
        if not room:
            return 0
        busy = Counter(due.chatbot_id for due, _ in self.calls.values())
        machines.ask_if_due()
        taken = self.queue.take(self._token, room=room, busy=busy)
        signers = signers_of({due.chatbot_id for due in taken}) if taken else {}
        unsigned: list[tuple[_Due, _Outcome]] = []
        resting: dict[Receiver, list[_Due]] = {}
        for due in taken:
            signs, receiver = signers[due.chatbot_id], self.queue.receiver_of(due)
            if self.queue.receivers.pause_seconds(receiver):
                resting.setdefault(receiver, []).append(due)
            elif signs.is_nothing or not signs.is_readable:
                code = "signing_key_missing" if signs.is_nothing else "signing_key_unreadable"
                unsigned.append((due, self.queue.unsigned(code)))
            else:
                call = self.queue.call(due, signers=signs, tls=self._tls)
                self.calls[self._threads.submit(call.run)] = (due, call)
        for receiver, put_off in resting.items():
            seconds = self.queue.receivers.pause_seconds(receiver)
            self.queue.postpone(self._token, put_off, receiver=receiver, seconds=seconds)
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
                # A late call sends nothing more: it is only waiting for the name service.
                ended.append((due, future.result() if is_done else call.partial_result()))
        for due, outcome in ended:
            answered = self.queue.has_answered(outcome)
            if answered:
                self.queue.receivers.answered(self.queue.receiver_of(due))
            elif answered is not None:
                self.queue.receivers.failed(self.queue.receiver_of(due))
        if ended:
            self.queue.note(self._token, ended)
        return len(ended)
