"""The queue of look-ups: finds the due ones, prepares their calls, and processes the answers.

Only chatbots with compliance enabled and a resolver that is on are called. The values of variables are read when a
row is taken, not when it was queued. If a conversation was closed meanwhile, its look-up is dropped without a call.
If it has an identity meanwhile, it is dropped too, unless the look-up is in doubt (`conversations.lookups`): that one
is about another person. So if a worker was killed after it had stored the value, a look-up in doubt is made again.
"""

import logging
import ssl
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from http import HTTPStatus
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db.models import Q
from django.db.models.functions import Coalesce, Now

from chatbots.callback_secrets import Signers
from chatbots.models import Chatbot, Resolver, Variable
from common.db import array, fetch
from compliance.lookups.client import Failure, LookupResult, call_to
from compliance.work import dispatcher
from compliance.work.call_queue import Call, Ending, Queue, Receivers, Row
from compliance.work.lookups import called_chatbots, due_chatbots
from conversations.identification import GivenIdentity, IdentifyResult, IdentityOutcome, identify
from conversations.intake import IntakeFailed
from conversations.models import Conversation, Identity, IdentityLookup, VariableValue
from conversations.placement import by_place

logger = logging.getLogger(__name__)

State = IdentityLookup.State
EstablishedBy = Identity.EstablishedBy

# Errors of the sent values, not of the address: a chatter can send anything, and must not delay others.
_OF_WHAT_WAS_SENT = set(range(400, 500)) - {HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS}

_STILL_HELD = """
SELECT id, expires_at IS NOT NULL AND EXISTS (
           SELECT FROM conversations_identity i
            WHERE i.chatbot_id = ANY(%(chatbots)s::bigint[]) AND i.conversation_id = l.conversation_id)
  FROM conversations_identitylookup l
 WHERE chatbot_id = ANY(%(chatbots)s::bigint[]) AND id = ANY(%(ids)s::bigint[]) AND token = %(token)s
"""

RESOLVERS = Receivers()


@dataclass(frozen=True)
class Target:
    """A resolver that is on, the ids and names of the variables that it gets, and the reliability of its answer."""

    url: str
    pointer: str
    uci_id: int
    uci_name: str
    sent: Mapping[int, str]
    established_by: EstablishedBy


@dataclass(frozen=True, eq=False)
class LeasedLookup:
    """A leased look-up, with the data for its call."""

    id: int
    chatbot_id: int
    attempts: int
    conversation: int  # its number
    conversation_id: str = field(repr=False)
    target: Target = field(repr=False)
    variables: Mapping[str, str] = field(repr=False)

    @property
    def url(self) -> str:
        return self.target.url


class Lookups(Queue[LeasedLookup, LookupResult]):
    name = "lookup"
    receivers = RESOLVERS
    model = IdentityLookup
    waits, gives_up, rests = State.PENDING.value, State.FAILED.value, Failure.RESOLVER_RESTING.value
    first_wait, longest_wait = timedelta(seconds=10), timedelta(hours=1)
    changes = """finished_at = CASE WHEN held.state <> 'pending' THEN held.at END,
       expires_at = CASE WHEN held.state = 'pending'
                           OR (c.expires_at IS NULL AND (c.has_gap OR held.state = 'failed'))
                         THEN c.expires_at ELSE held.expires_at END"""
    reported = "c.chatbot_id, c.state, c.last_error"

    @property
    def kept(self) -> timedelta:
        days: timedelta = settings.VARIABLE_DAYS
        return days

    def due_chatbots(self) -> list[int]:
        return due_chatbots(called_chatbots())

    def read(self, token: UUID, rows: Sequence[Row]) -> list[LeasedLookup]:
        chatbots = {row.chatbot_id for row in rows}
        ours = IdentityLookup.objects.filter(chatbot__in=chatbots, pk__in=[row.id for row in rows])
        found = list(ours.annotate(is_over=Q(give_up_at__lte=Now())))
        contents = _Contents(chatbots, [one.conversation_id for one in found])
        taken, needless, over, stopped = [], [], [], []
        for one in found:
            target = contents.targets.get(one.chatbot_id)
            if target is None:  # such as one that was turned off just now
                stopped.append(one)
                continue
            external_id = contents.ids.get((one.conversation_id, target.uci_id))
            in_doubt = one.expires_at is None
            if external_id is None or (one.conversation_id in contents.identified and not in_doubt):
                needless.append(one)
                continue
            variables = contents.variables(one.conversation_id, target)
            if one.is_over or len(variables) < len(target.sent):
                over.append((one, Ending(State.FAILED, None if one.is_over else Failure.VALUE_MISSING)))
                continue
            taken.append(
                LeasedLookup(
                    id=one.id,
                    chatbot_id=one.chatbot_id,
                    attempts=one.attempts,
                    conversation=one.conversation_id,
                    conversation_id=external_id,
                    target=target,
                    variables=variables,
                )
            )
        self.release(token, stopped)
        self.drop(token, needless)
        self.end(token, over, calls=0)
        return taken

    def call(self, due: LeasedLookup, *, signers: Signers, tls: ssl.SSLContext) -> Call[LookupResult]:
        return call_to(
            due.url,
            pointer=due.target.pointer,
            conversation_id=due.conversation_id,
            variables=due.variables,
            signers=signers,
            tls=tls,
        )

    def unsigned(self, code: str) -> LookupResult:
        return LookupResult(error=Failure(code), is_final=False)

    def note(self, token: UUID, outcomes: Sequence[tuple[LeasedLookup, LookupResult]]) -> None:
        """Record outcomes, but none of a former resolver.

        It may have been changed because it answers wrongly. Its look-ups are released, and made again when their
        lease is over, at the resolver of that time.
        """
        targets = _targets({one.chatbot_id for one, _ in outcomes})
        self.release(token, [one for one, _ in outcomes if one.target != targets.get(one.chatbot_id)])
        outcomes = [(one, result) for one, result in outcomes if one.target == targets.get(one.chatbot_id)]
        _note_resolvers((one.chatbot_id, result) for one, result in outcomes)
        endings = [(one, _ending_of(result)) for one, result in outcomes if result.value is None]
        endings += _store(token, {one: result.value for one, result in outcomes if result.value is not None})
        self.drop(token, [one for one, ending in endings if ending is None])
        self.end(token, [(one, ending) for one, ending in endings if ending is not None])

    def recorded(self, rows: Sequence[tuple[Any, ...]]) -> None:
        for chatbot_id, state, error in rows:
            if error and error != self.rests:
                event = "failed" if state == State.FAILED else "attempt_failed"
                logger.warning("lookup.%s chatbot=%s code=%s", event, chatbot_id, error)

    def has_answered(self, outcome: LookupResult) -> bool | None:
        if outcome.error is Failure.BAD_STATUS and outcome.status in _OF_WHAT_WAS_SENT:
            return None
        return outcome.error is None or outcome.is_final


def look_up(*, seconds: float = dispatcher.TURN_SECONDS) -> bool:
    """Make the look-ups that are due until none is, or the time is over; return whether some may be left.

    Look-ups that a killed worker was making are made again when their lease is over.
    """
    return dispatcher.run([Lookups()], seconds=seconds)


def held(token: UUID, taken: Collection[LeasedLookup]) -> dict[int, bool]:
    """Return the look-ups that have not been queued anew, erased or taken by another meanwhile, by their ids.

    The value is true if the look-up is not needed any more, since the conversation has an identity by now.
    """
    found: dict[int, bool] = {}
    for some in by_place({one: one.chatbot_id for one in taken}):
        chatbots = array({one.chatbot_id for one in some})
        values = {"token": token, "ids": array(one.id for one in some), "chatbots": chatbots}
        found |= dict(fetch(_STILL_HELD, values))
    return found


class _Contents:
    """The data for the look-ups of these conversations: their resolvers, and their stored variables."""

    def __init__(self, chatbots: Collection[int], numbers: Collection[int]) -> None:
        which = {"chatbot__in": chatbots, "conversation__in": numbers}
        live = Conversation.objects.filter(chatbot__in=chatbots, pk__in=numbers, deletion_request_id=None)
        stored = VariableValue.objects.filter(**which).values_list("conversation_id", "variable_id", "value")
        self.targets = _targets(chatbots)
        self.ids = {
            (number, uci): external_id
            for number, uci, external_id in live.values_list("pk", "uci_variable", "external_id")
        }
        self.identified = set(Identity.objects.filter(**which).values_list("conversation_id", flat=True))
        self._values = {
            (number, variable): value for number, variable, value in stored if value not in settings.UCI_PLACEHOLDERS
        }

    def variables(self, number: int, target: Target) -> dict[str, str]:
        """Return the values to send for a conversation, by name, as far as they are stored."""
        found = ((name, self._values.get((number, pk))) for pk, name in target.sent.items())
        return {name: value for name, value in found if value is not None}


def _targets(chatbots: Collection[int]) -> dict[int, Target]:
    variables = {one.pk: one for one in Variable.objects.filter(chatbot__in=chatbots)}
    ucis = {one.chatbot_id: one for one in variables.values() if one.is_uci}
    targets = {}
    for resolver in Resolver.objects.filter(chatbot__in=chatbots, off_reason=""):
        sent = [variables[pk] for pk in resolver.variable_ids if pk in variables]
        if resolver.pk not in ucis or len(sent) < len(resolver.variable_ids):
            continue  # changed by hand: it is this chatbot's trouble alone
        can_be_forged = any(
            one.category == Variable.Category.USER_CHANNEL and one.pk != resolver.session_token_id for one in sent
        )
        uci = ucis[resolver.pk]
        targets[resolver.pk] = Target(
            url=resolver.url,
            pointer=resolver.pointer,
            uci_id=uci.pk,
            uci_name=uci.name,
            sent={one.pk: one.name for one in sent},
            established_by=EstablishedBy.CUSTOM if can_be_forged else EstablishedBy.RESOLVED,
        )
    return targets


def _note_resolvers(results: Iterable[tuple[int, LookupResult]]) -> None:
    """Record how the resolvers of these chatbots answered.

    If calls end together, a bad one among good ones is no failure of the address.
    """
    by_chatbot: defaultdict[int, list[LookupResult]] = defaultdict(list)
    for chatbot_id, result in results:
        by_chatbot[chatbot_id].append(result)
    for chatbot_id, some in by_chatbot.items():
        is_well = any(result.error is None for result in some)
        fields: dict[str, Any] = {"failing_since": None if is_well else Coalesce("failing_since", Now())}
        if errors := [result.error for result in some if result.error]:
            fields |= {"last_error": errors[-1], "last_error_at": Now()}
        Resolver.objects.filter(pk=chatbot_id).update(called_at=Now(), **fields)


def _ending_of(result: LookupResult) -> Ending | None:
    if result.is_unknown:
        return Ending(State.UNKNOWN)
    return Ending(State.FAILED if result.is_final else State.PENDING, result.error)


def _store(token: UUID, values: Mapping[LeasedLookup, str]) -> list[tuple[LeasedLookup, Ending | None]]:
    """Store values as identities, and return the endings of their look-ups; nothing for those lost meanwhile."""
    if not values:
        return []
    still_held = held(token, values)
    endings: list[tuple[LeasedLookup, Ending | None]] = [(one, None) for one in values if still_held.get(one.id)]
    groups: defaultdict[tuple[int, EstablishedBy], list[LeasedLookup]] = defaultdict(list)
    for one in values:
        if still_held.get(one.id) is False:
            groups[one.chatbot_id, one.target.established_by].append(one)
    chatbots = Chatbot.objects.in_bulk({chatbot_id for chatbot_id, _ in groups})
    for (chatbot_id, way), some in groups.items():
        named = [GivenIdentity(number=one.conversation, key=one.target.uci_name, value=values[one]) for one in some]
        try:
            results = identify(chatbot=chatbots[chatbot_id], identities=named, way=way)
        except IntakeFailed as failed:
            logger.warning("lookup.not_stored chatbot=%s %s", chatbot_id, failed)
            endings += [(one, Ending(State.PENDING, Failure.NOT_STORED)) for one in some]
            continue
        for one, result in zip(some, results, strict=True):
            endings.append((one, _stored_ending(result)))
    return endings


def _stored_ending(result: IdentifyResult) -> Ending | None:
    if result.outcome is not IdentityOutcome.REFUSED:
        return Ending(State.RESOLVED)
    if {error.code for error in result.errors} & {"chatter_erased", "invalid"}:
        return Ending(State.FAILED, Failure.NOT_STORED)
    return None
