"""Lease look-ups that are due, with what their calls need, and record what became of them.

A leased row has the worker's token, and `next_attempt_at` is the end of the lease, after which others may take it. A
worker that has lost a row writes nothing to it. All times are the database's.

Only chatbots whose resolver is on, and which have compliance enabled, are called. What their variables hold is read
when a row is taken, not when it was queued. Where a conversation was closed meanwhile, its look-up is dropped without
a call; where it has an identity meanwhile, too, unless the look-up is in doubt (`conversations.lookups`): that one is
about somebody else. So after a worker that was killed once it had stored the value, a look-up in doubt is made again.
"""

import logging
import random
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import transaction

from chatbots.callback_urls import receiver_of
from chatbots.models import Resolver, Variable
from common.db import BY_INDEX, array, execute, fetch, fetch_in_index_order
from compliance.lookups.client import Failure, LookupResult
from compliance.work.lookups import called_chatbots, due_chatbots
from compliance.work.turns import LEASE_SECONDS, may_take, random_wait, shares
from conversations.models import Conversation, Identity, IdentityLookup, VariableValue
from conversations.placement import by_place

logger = logging.getLogger(__name__)

State = IdentityLookup.State
EstablishedBy = Identity.EstablishedBy

# No volatile function stands in an UPDATE of these tables, and no time in its CASEs or its RETURNING: a distributed
# one refuses that (docs/scaling.md). What depends on the time is decided where the rows are locked. All statements
# but those of one chatbot are run place by place.
_WAIT = random_wait("l.attempts", first=10, longest=3600, random="o.random")
# Of those that go to a resolver that rests, how many are put off at a time.
_PUT_OFF = 5_000
_SECONDS_TO_TAKE = 1.0

_TAKE = """
WITH picked AS (
    SELECT chosen.id, chosen.is_over
      FROM unnest(%(chatbots)s::bigint[], %(shares)s::int[]) AS due(chatbot_id, share)
     CROSS JOIN LATERAL (
        SELECT l.id, l.give_up_at <= statement_timestamp() AS is_over
          FROM conversations_identitylookup l
         WHERE l.chatbot_id = ANY(%(chatbots)s::bigint[]) AND l.chatbot_id = due.chatbot_id AND l.state = 'pending'
           AND l.next_attempt_at <= statement_timestamp()
         ORDER BY l.next_attempt_at
         LIMIT due.share
           FOR UPDATE OF l SKIP LOCKED
     ) AS chosen
)
UPDATE conversations_identitylookup l
   SET token = %(token)s, next_attempt_at = statement_timestamp() + make_interval(secs => %(lease)s)
  FROM picked WHERE l.id = picked.id AND l.chatbot_id = ANY(%(chatbots)s::bigint[])
RETURNING l.id, l.chatbot_id, l.conversation_id, picked.is_over, l.expires_at IS NULL
"""

# An erasure deletes several in an order of its own, and intake queues several anew: who waits for one while holding
# another could be waited for. What they hold is not the worker's any more.
_HELD = """ARRAY(
       SELECT h.id FROM conversations_identitylookup h
        WHERE h.chatbot_id = ANY(%(chatbots)s::bigint[]) AND h.id = ANY(%(ids)s::bigint[]) AND h.token = %(token)s
          FOR UPDATE SKIP LOCKED)"""
_IS_HELD = f"chatbot_id = ANY(%(chatbots)s::bigint[]) AND id = ANY({_HELD})"
_NOTE = f"""
WITH outcome AS (
    SELECT * FROM unnest(%(ids)s::bigint[], %(states)s::text[], %(errors)s::text[], %(random)s::float8[])
               AS one(id, state, error, random)
), held AS (
    SELECT l.id, o.state = 'pending' AND l.give_up_at > statement_timestamp() AS goes_on,
           CASE WHEN o.state = 'pending' AND l.give_up_at <= statement_timestamp() THEN 'failed' ELSE o.state END
           AS state,
           CASE WHEN o.state = 'failed' AND o.error = '' THEN l.last_error ELSE o.error END AS last_error,
           least(l.give_up_at, statement_timestamp() + {_WAIT}) AS again_at,
           statement_timestamp() AS at, statement_timestamp() + make_interval(secs => %(kept)s) AS expires_at
      FROM outcome o
      JOIN conversations_identitylookup l ON l.id = o.id
     WHERE l.chatbot_id = ANY(%(chatbots)s::bigint[]) AND l.token = %(token)s
       FOR UPDATE OF l SKIP LOCKED
)
UPDATE conversations_identitylookup l
   SET token = NULL, attempts = l.attempts + %(called)s, last_error = held.last_error, state = held.state,
       next_attempt_at = CASE WHEN held.goes_on THEN held.again_at END,
       finished_at = CASE WHEN NOT held.goes_on THEN held.at END,
       expires_at = CASE WHEN held.goes_on OR (l.expires_at IS NULL AND (l.has_gap OR held.state = 'failed'))
                         THEN l.expires_at ELSE held.expires_at END
  FROM held
 WHERE l.chatbot_id = ANY(%(chatbots)s::bigint[]) AND l.id = held.id
RETURNING l.chatbot_id, l.state, l.last_error
"""  # noqa: S608  (texts of ours)

_DROP = f"DELETE FROM conversations_identitylookup WHERE {_IS_HELD}"  # noqa: S608  (texts of ours)
_STILL_HELD = """
SELECT id, expires_at IS NOT NULL AND EXISTS (
           SELECT FROM conversations_identity i
            WHERE i.chatbot_id = ANY(%(chatbots)s::bigint[]) AND i.conversation_id = l.conversation_id)
  FROM conversations_identitylookup l
 WHERE chatbot_id = ANY(%(chatbots)s::bigint[]) AND id = ANY(%(ids)s::bigint[]) AND token = %(token)s
"""

# The lease runs out, but its worker is not at it any more: rows under lease keep others from calling.
_PUT_BACK = f"UPDATE conversations_identitylookup SET token = NULL WHERE {_IS_HELD}"  # noqa: S608  (texts of ours)

# No attempt is lost. What has been tried for long enough is given up, though it was not tried just now.
_REST = """
WITH resting AS (
    SELECT l.id, l.give_up_at > statement_timestamp() AS goes_on,
           least(l.give_up_at, statement_timestamp() + make_interval(secs => %(wait)s)) AS again_at,
           statement_timestamp() AS at
      FROM conversations_identitylookup l
     WHERE l.chatbot_id = %(chatbot)s AND l.id = ANY(ARRAY(
           SELECT d.id FROM conversations_identitylookup d
            WHERE d.state = 'pending' AND d.chatbot_id = %(chatbot)s AND d.next_attempt_at <= statement_timestamp()
            ORDER BY d.next_attempt_at LIMIT %(most)s) || %(taken)s::bigint[])
       AND (l.token = %(token)s OR (l.state = 'pending' AND l.next_attempt_at <= statement_timestamp()))
       FOR UPDATE SKIP LOCKED
)
UPDATE conversations_identitylookup l
   SET token = NULL, last_error = 'resolver_resting',
       state = CASE WHEN resting.goes_on THEN 'pending' ELSE 'failed' END,
       next_attempt_at = CASE WHEN resting.goes_on THEN resting.again_at END,
       finished_at = CASE WHEN NOT resting.goes_on THEN resting.at END
  FROM resting
 WHERE l.chatbot_id = %(chatbot)s AND l.id = resting.id
RETURNING TRUE
"""

# Of calls that ended together, one bad among good ones is no failure of the address.
_NOTE_RESOLVERS = """
UPDATE chatbots_resolver r
   SET called_at = statement_timestamp(),
       failing_since = CASE WHEN o.is_well THEN NULL ELSE coalesce(r.failing_since, statement_timestamp()) END,
       last_error = CASE o.error WHEN '' THEN r.last_error ELSE o.error END,
       last_error_at = CASE o.error WHEN '' THEN r.last_error_at ELSE statement_timestamp() END
  FROM unnest(%(chatbots)s::bigint[], %(well)s::boolean[], %(errors)s::text[]) AS o(chatbot_id, is_well, error)
 WHERE r.chatbot_id = o.chatbot_id AND r.chatbot_id = ANY(ARRAY(
       SELECT chatbot_id FROM chatbots_resolver WHERE chatbot_id = ANY(%(chatbots)s::bigint[])
        ORDER BY chatbot_id FOR NO KEY UPDATE))
"""


@dataclass(frozen=True, eq=False)
class Taken:
    """A leased look-up, with what its call needs."""

    id: int
    chatbot_id: int
    conversation: int  # its number
    conversation_id: str = field(repr=False)
    target: "Target" = field(repr=False)
    variables: Mapping[str, str] = field(repr=False)

    @property
    def receiver(self) -> tuple[int, str]:
        return self.chatbot_id, receiver_of(self.target.url) or ""


def take(token: UUID, *, room: int, busy: Mapping[int, int]) -> list[Taken]:
    """Take look-ups that are due, at most `room`; `busy` says how many calls each chatbot has on their way.

    Those that need no call are done with on the way, as many as a second allows.
    """
    end = time.monotonic() + _SECONDS_TO_TAKE
    while time.monotonic() < end:
        taken, is_empty = _take(token, room=room, busy=busy)
        if taken or is_empty:
            return taken
    return []


def _take(token: UUID, *, room: int, busy: Mapping[int, int]) -> tuple[list[Taken], bool]:
    """Return what was taken, and whether there was nothing that could be."""
    with transaction.atomic():
        # Also has PostgreSQL take in the order of the index, instead of sorting all that is due.
        due = due_chatbots(called_chatbots())
        shared = shares(due, room=room, busy=busy) if due and may_take(token) else {}
        if not shared:
            return [], True
        rows = []
        for together in by_place({chatbot: chatbot for chatbot in shared}):
            shares_of = array(shared[chatbot] for chatbot in together)
            values = {"token": token, "lease": LEASE_SECONDS, "chatbots": array(together), "shares": shares_of}
            rows += fetch(_TAKE, values)
        return _with_content(token, [_Row(*row) for row in rows]), not rows


def with_current_target(
    token: UUID,
    outcomes: Sequence[tuple[Taken, LookupResult]],
) -> list[tuple[Taken, LookupResult]]:
    """Return the outcomes of calls to resolvers that are on, and as they were when the calls began.

    A former one may have been changed because it answers wrongly. What it was asked is put back, and asked anew when
    its lease is over, wherever that is then.
    """
    targets = _targets({one.chatbot_id for one, _ in outcomes})
    former = {one for one, _ in outcomes if one.target != targets.get(one.chatbot_id)}
    _change(_PUT_BACK, token, former)
    return [(one, result) for one, result in outcomes if one not in former]


def held(token: UUID, taken: Collection[Taken]) -> dict[int, bool]:
    """Return the look-ups that have not been queued anew, erased or taken by another meanwhile, by their ids.

    The value says whether it is not needed any more, since the conversation has an identity by now.
    """
    return dict(row for values in _each_place(token, taken) for row in fetch(_STILL_HELD, values))


def drop(token: UUID, taken: Collection[Taken]) -> None:
    """Delete look-ups that are not needed any more."""
    _change(_DROP, token, taken)


def note(token: UUID, outcomes: Sequence[tuple[Taken, State, Failure | None]]) -> None:
    """Record outcomes. `pending` are tried again later, or failed where they have been tried for long enough."""
    _note(token, [(one.id, one.chatbot_id, state, error) for one, state, error in outcomes], called=True)


def note_resolvers(results: Iterable[tuple[int, LookupResult]]) -> None:
    """Record how the resolvers of these chatbots answered."""
    well: dict[int, bool] = {}
    errors: dict[int, str] = {}
    for chatbot_id, result in results:
        well[chatbot_id] = well.get(chatbot_id, False) or result.error is None
        errors[chatbot_id] = str(result.error or errors.get(chatbot_id, ""))
    values = {"chatbots": array(well), "well": list(well.values()), "errors": [errors[one] for one in well]}
    execute(_NOTE_RESOLVERS, values)


def let_rest(token: UUID, taken: Collection[Taken], *, chatbot_id: int, seconds: float) -> None:
    """Put off what would go to a resolver that rests: what was taken, and what else is due, many at a time."""
    values = {
        "token": token,
        "wait": seconds,
        "chatbot": chatbot_id,
        "taken": array(one.id for one in taken),
        "most": _PUT_OFF,
    }
    with transaction.atomic():
        execute(BY_INDEX)
        fetch_in_index_order(_REST, values)


@dataclass(frozen=True)
class _Row:
    id: int
    chatbot_id: int
    conversation: int
    is_over: bool
    in_doubt: bool


@dataclass(frozen=True)
class Target:
    """A resolver that is on, the variables that it gets, by id with their names, and what its answer is worth."""

    url: str
    pointer: str
    uci_id: int
    uci_name: str
    sent: Mapping[int, str]
    established_by: EstablishedBy


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


def _with_content(token: UUID, rows: Sequence[_Row]) -> list[Taken]:
    """Read what is to be sent. What need not or cannot be called is dropped or ends here."""
    chatbots, numbers = {row.chatbot_id for row in rows}, [row.conversation for row in rows]
    targets = _targets(chatbots)
    live = Conversation.objects.filter(chatbot__in=chatbots, pk__in=numbers, deletion_request_id=None)
    ids = {
        (number, uci): external_id
        for number, uci, external_id in live.values_list("pk", "uci_variable", "external_id")
    }
    which = {"chatbot__in": chatbots, "conversation__in": numbers}
    identified = set(Identity.objects.filter(**which).values_list("conversation_id", flat=True))
    stored = VariableValue.objects.filter(**which).values_list("conversation_id", "variable_id", "value")
    values = {
        (number, variable): value for number, variable, value in stored if value not in settings.UCI_PLACEHOLDERS
    }
    taken, needless, over, stopped = [], [], [], []
    for row in rows:
        target = targets.get(row.chatbot_id)
        if target is None:  # such as one that was turned off just now
            stopped.append(row)
            continue
        external_id = ids.get((row.conversation, target.uci_id))
        if external_id is None or (row.conversation in identified and not row.in_doubt):
            needless.append(row)
            continue
        variables = {
            name: values[row.conversation, pk] for pk, name in target.sent.items() if (row.conversation, pk) in values
        }
        if row.is_over or len(variables) < len(target.sent):
            over.append((row.id, row.chatbot_id, State.FAILED, None if row.is_over else Failure.VALUE_MISSING))
            continue
        taken.append(
            Taken(
                id=row.id,
                chatbot_id=row.chatbot_id,
                conversation=row.conversation,
                conversation_id=external_id,
                target=target,
                variables=variables,
            )
        )
    _change(_PUT_BACK, token, stopped)
    _change(_DROP, token, needless)
    if over:
        _note(token, over, called=False)
    return taken


def _note(token: UUID, outcomes: Sequence[tuple[int, int, State, Failure | None]], *, called: bool) -> None:
    """As `note`, by (id, chatbot). What failed without an error keeps its last one."""
    noted = []
    with transaction.atomic():
        execute(BY_INDEX)
        for some in by_place({one: one[1] for one in outcomes}):
            values: dict[str, Any] = {
                "token": token,
                "chatbots": array({chatbot_id for _, chatbot_id, _, _ in some}),
                "ids": array(number for number, _, _, _ in some),
                "states": [str(state) for _, _, state, _ in some],
                "errors": [str(error or "") for *_, error in some],
                "random": [random.random() for _ in some],  # noqa: S311  (nothing secret)
                "called": int(called),
                "kept": settings.VARIABLE_DAYS.total_seconds(),
            }
            noted += fetch(_NOTE, values)
    for chatbot_id, state, error in noted:
        if error:
            event = "failed" if state == State.FAILED else "attempt_failed"
            logger.warning("lookup.%s chatbot=%s code=%s", event, chatbot_id, error)


def _change(statement: str, token: UUID, rows: Iterable[Taken | _Row]) -> None:
    for values in _each_place(token, rows):
        execute(statement, values)


def _each_place(token: UUID, rows: Iterable[Taken | _Row]) -> Iterator[dict[str, Any]]:
    """Yield the parameters of a statement about these rows, for those of each place."""
    for some in by_place({row: row.chatbot_id for row in rows}):
        chatbots = array({row.chatbot_id for row in some})
        yield {"token": token, "ids": array(row.id for row in some), "chatbots": chatbots}
