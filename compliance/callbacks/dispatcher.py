"""A worker's turn at sending callbacks (`work.turns`)."""

import ssl
from collections.abc import Collection, Mapping, Sequence
from uuid import UUID

from chatbots.callback_secrets import Signers
from compliance.callbacks import leases
from compliance.callbacks.client import Call
from compliance.callbacks.leases import Outcome, Taken
from compliance.models import Callback
from compliance.work import turns
from compliance.work.turns import TURN_SECONDS, Receiver, Receivers

Failure = Callback.Failure

RECEIVERS = Receivers()


class Callbacks(turns.Queue[Taken, Outcome]):
    name = "callback"
    receivers = RECEIVERS

    def take(self, token: UUID, *, room: int, busy: Mapping[int, int]) -> Sequence[Taken]:
        return leases.take(token, room=room, busy=busy)

    def call(self, due: Taken, *, signers: Signers, tls: ssl.SSLContext) -> Call:
        return Call(due, signers=signers, tls=tls)

    def unsigned(self, signers: Signers) -> Outcome:
        missing, unreadable = Failure.SIGNING_KEY_MISSING, Failure.SIGNING_KEY_UNREADABLE
        return Outcome(error=missing if signers.is_nothing else unreadable)

    def let_rest(self, token: UUID, taken: Collection[Taken], *, receiver: Receiver, seconds: float) -> None:
        leases.let_rest(token, taken, receiver=receiver, seconds=seconds)

    def note(self, token: UUID, outcomes: Sequence[tuple[Taken, Outcome]]) -> None:
        leases.note(token, {callback.id: outcome for callback, outcome in outcomes})

    def has_answered(self, outcome: Outcome) -> bool | None:
        if outcome.status == leases.GONE:  # which speaks of one address, not of its host
            return None
        return outcome.error is None


def deliver(*, seconds: float = TURN_SECONDS) -> bool:
    """Send callbacks that are due until none is, or the time is over; return whether some may be left.

    What was on its way when a worker was killed is sent again when its lease is over: each event is delivered at
    least once.
    """
    return turns.run([Callbacks()], seconds=seconds)
