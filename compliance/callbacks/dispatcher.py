"""A worker's turn at sending callbacks: a few threads call, one looks after the rows.

A receiver that is slow or gone holds up neither other receivers nor the worker: of one chatbot only so many are on
their way at a time, a receiver that fails several times in a row is left alone for a while, and a turn is bounded.
"""

import ssl
import time
from collections import Counter, defaultdict
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from functools import cached_property
from uuid import UUID, uuid4

from chatbots.callback_secrets import signers_of
from common import outbound
from common.storage.breaker import Breaker
from compliance.callbacks import leases
from compliance.callbacks.client import Call
from compliance.callbacks.leases import Outcome, Taken
from compliance.models import Callback

Failure = Callback.Failure
Receiver = tuple[int, str]

# No new call is begun later in a turn; those on their way may take as long as a call may.
TURN_SECONDS = 10.0
THREADS = 32
# While calls are on their way, others are looked for so often.
_LOOK_SECONDS = 0.2


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


RECEIVERS = Receivers()


def deliver(*, seconds: float = TURN_SECONDS) -> bool:
    """Send callbacks that are due until none is, or the time is over; return whether some may be left.

    Nothing is sent while other workers see to it. What was on its way when a worker was killed is sent again when its
    lease is over: each event is delivered at least once.
    """
    turn = _Turn(end=time.monotonic() + seconds)
    try:
        return turn.run()
    finally:
        turn.close()


class _Turn:
    def __init__(self, *, end: float) -> None:
        self._end = end
        self._token: UUID = uuid4()
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="callback")
        self._calls: dict[Future[Outcome], Call] = {}

    def run(self) -> bool:
        while True:
            is_over = time.monotonic() >= self._end
            found = 0 if is_over else self._begin_some()
            if self._calls:
                self._note(self._ended())
            elif not found:
                return is_over

    def close(self) -> None:
        """Leave what is still on its way to its threads, if an error ended the turn: the leases run out."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _begin_some(self) -> int:
        """Take what is due, and return how many that were."""
        room = THREADS - len(self._calls)
        if not room:
            return 0
        busy = Counter(call.callback.chatbot_id for call in self._calls.values())
        taken = leases.take(self._token, room=room, busy=busy)
        signers = signers_of({callback.chatbot_id for callback in taken}) if taken else {}
        unsigned: dict[UUID, Outcome] = {}
        resting: dict[Receiver, list[Taken]] = {}
        for callback in taken:
            signs = signers[callback.chatbot_id]
            if RECEIVERS.rest_of(callback.receiver):
                resting.setdefault(callback.receiver, []).append(callback)
            elif signs.is_nothing:
                unsigned[callback.id] = Outcome(error=Failure.SIGNING_KEY_MISSING)
            elif not signs.is_readable:
                unsigned[callback.id] = Outcome(error=Failure.SIGNING_KEY_UNREADABLE)
            else:
                call = Call(callback, signers=signs, tls=self._tls)
                self._calls[self._threads.submit(call.run)] = call
        for receiver, callbacks in resting.items():
            leases.let_rest(self._token, callbacks, receiver=receiver, seconds=RECEIVERS.rest_of(receiver))
        if unsigned:
            leases.note(self._token, unsigned)
        return len(taken)

    def _ended(self) -> dict[UUID, tuple[Receiver, Outcome]]:
        """Wait a little, and return the calls that are over: by themselves, or because their time is."""
        left = min(call.deadline for call in self._calls.values()) - time.monotonic()
        done, _ = wait(self._calls, timeout=max(0.0, min(left, _LOOK_SECONDS)), return_when=FIRST_COMPLETED)
        late = [
            future for future, call in self._calls.items() if future not in done and time.monotonic() >= call.deadline
        ]
        ended = {}
        for future in (*done, *late):
            call = self._calls.pop(future)
            # A late one sends nothing more: what it still waits for is the name service.
            outcome = future.result() if future in done else call.so_far()
            ended[call.callback.id] = (call.callback.receiver, outcome)
        return ended

    def _note(self, ended: dict[UUID, tuple[Receiver, Outcome]]) -> None:
        for receiver, outcome in ended.values():
            if outcome.error is None:
                RECEIVERS.answered(receiver)
            elif outcome.status != leases.GONE:  # which speaks of one address, not of its host
                RECEIVERS.failed(receiver)
        if ended:
            leases.note(self._token, {callback_id: outcome for callback_id, (_, outcome) in ended.items()})

    @cached_property
    def _tls(self) -> ssl.SSLContext:
        """What trusts the certificates that this machine trusts."""
        return outbound.tls_context()
