"""A worker's turn at looking up identities (`work.turns`)."""

import logging
import ssl
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from http import HTTPStatus
from uuid import UUID

from chatbots.callback_secrets import Signers
from chatbots.models import Chatbot
from compliance.lookups import leases
from compliance.lookups.client import Call, Failure, LookupResult
from compliance.lookups.leases import State, Taken
from compliance.work import turns
from compliance.work.turns import TURN_SECONDS, Receiver, Receivers
from conversations.identification import IdentifyResult, IdentityOutcome, NamedIdentity, identify
from conversations.intake import IntakeFailed
from conversations.models import Identity

logger = logging.getLogger(__name__)

# What became of a look-up: its state and error, or None if it is not needed any more.
_Ending = tuple[State, Failure | None] | None

# Of what was sent, not of the address: a chatter can send anything, and must not make others wait.
_OF_WHAT_WAS_SENT = set(range(400, 500)) - {HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS}

RESOLVERS = Receivers()


class Lookups(turns.Queue[Taken, LookupResult]):
    name = "lookup"
    receivers = RESOLVERS

    def take(self, token: UUID, *, room: int, busy: Mapping[int, int]) -> Sequence[Taken]:
        return leases.take(token, room=room, busy=busy)

    def call(self, due: Taken, *, signers: Signers, tls: ssl.SSLContext) -> Call:
        return Call(
            url=due.target.url,
            pointer=due.target.pointer,
            conversation_id=due.conversation_id,
            variables=due.variables,
            signers=signers,
            tls=tls,
        )

    def unsigned(self, signers: Signers) -> LookupResult:
        missing, unreadable = Failure.SIGNING_KEY_MISSING, Failure.SIGNING_KEY_UNREADABLE
        return LookupResult(error=missing if signers.is_nothing else unreadable, is_final=False)

    def let_rest(self, token: UUID, taken: Collection[Taken], *, receiver: Receiver, seconds: float) -> None:
        leases.let_rest(token, taken, chatbot_id=receiver[0], seconds=seconds)

    def note(self, token: UUID, outcomes: Sequence[tuple[Taken, LookupResult]]) -> None:
        outcomes = leases.with_current_target(token, outcomes)
        leases.note_resolvers((one.chatbot_id, result) for one, result in outcomes)
        endings = [(one, _ending_of(result)) for one, result in outcomes if result.value is None]
        endings += _store(token, {one: result.value for one, result in outcomes if result.value is not None})
        if needless := [one for one, ending in endings if ending is None]:
            leases.drop(token, needless)
        if left := [(one, *ending) for one, ending in endings if ending is not None]:
            leases.note(token, left)

    def has_answered(self, outcome: LookupResult) -> bool | None:
        if outcome.error is Failure.BAD_STATUS and outcome.status in _OF_WHAT_WAS_SENT:
            return None
        return outcome.error is None or outcome.is_final


def look_up(*, seconds: float = TURN_SECONDS) -> bool:
    """Make the look-ups that are due until none is, or the time is over; return whether some may be left.

    What was on its way when a worker was killed is asked again when its lease is over.
    """
    return turns.run([Lookups()], seconds=seconds)


def _ending_of(result: LookupResult) -> _Ending:
    if result.is_unknown:
        return State.UNKNOWN, None
    return (State.FAILED if result.is_final else State.PENDING), result.error


def _store(token: UUID, values: Mapping[Taken, str]) -> list[tuple[Taken, _Ending]]:
    """Store values as identities, and return what became of their look-ups; nothing for those lost meanwhile."""
    if not values:
        return []
    held = leases.held(token, values)
    endings: list[tuple[Taken, _Ending]] = [(one, None) for one in values if held.get(one.id)]
    groups: defaultdict[tuple[int, Identity.EstablishedBy], list[Taken]] = defaultdict(list)
    for one in values:
        if held.get(one.id) is False:
            groups[one.chatbot_id, one.target.established_by].append(one)
    chatbots = Chatbot.objects.in_bulk({chatbot_id for chatbot_id, _ in groups})
    for (chatbot_id, way), some in groups.items():
        named = [NamedIdentity(number=one.conversation, key=one.target.uci_name, value=values[one]) for one in some]
        try:
            results = identify(chatbot=chatbots[chatbot_id], identities=named, way=way)
        except IntakeFailed as failed:
            logger.warning("lookup.not_stored chatbot=%s %s", chatbot_id, failed)
            endings += [(one, (State.PENDING, Failure.NOT_STORED)) for one in some]
            continue
        for one, result in zip(some, results, strict=True):
            endings.append((one, _stored_ending(result)))
    return endings


def _stored_ending(result: IdentifyResult) -> _Ending:
    if result.outcome is not IdentityOutcome.REFUSED:
        return State.RESOLVED, None
    if {error.code for error in result.errors} & {"chatter_erased", "invalid"}:
        return State.FAILED, Failure.NOT_STORED
    return None
