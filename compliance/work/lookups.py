"""The look-ups of identities: the due ones, their waits, and their overview for staff.

`compliance.lookups` makes them.
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from chatbots.models import Chatbot, Resolver
from common.db import array, fetch_in_index_order
from conversations.models import IdentityLookup
from conversations.placement import by_place, machines

State = IdentityLookup.State

# A look-up normally takes seconds; a resolver that is down is tried for a day.
LONGEST_WAIT = timedelta(hours=1)
# In an overview.
MOST_COUNTED = 1_000

# One index step for each chatbot, however many wait.
_DUE_CHATBOTS = """
SELECT each.id
  FROM unnest(%(chatbots)s::bigint[]) AS each(id)
 CROSS JOIN LATERAL (
       SELECT FROM conversations_identitylookup l
        WHERE l.chatbot_id = ANY(%(chatbots)s::bigint[]) AND l.chatbot_id = each.id AND l.state = 'pending'
          AND l.next_attempt_at <= statement_timestamp()
        ORDER BY l.next_attempt_at LIMIT 1) AS first
"""
# A look-up that was called and is retried is not evidence about the workers: the receiver may refuse the chatter's
# token.
_OLDEST = """
SELECT each.id, first.queued_at
  FROM unnest(%(chatbots)s::bigint[]) AS each(id)
 CROSS JOIN LATERAL (
       SELECT waiting.queued_at
         FROM (SELECT l.queued_at, l.attempts FROM conversations_identitylookup l
                WHERE l.chatbot_id = ANY(%(chatbots)s::bigint[]) AND l.chatbot_id = each.id AND l.state = 'pending'
                ORDER BY l.queued_at LIMIT 1000) AS waiting
        WHERE waiting.attempts = 0 LIMIT 1) AS first
"""
_COUNTS = """
SELECT 'pending', count(*), min(one.queued_at) FROM (
    SELECT queued_at FROM conversations_identitylookup
     WHERE chatbot_id = %(chatbot)s AND state = 'pending' ORDER BY queued_at LIMIT %(most)s) AS one
 UNION ALL
SELECT one.state, count(*), NULL FROM (
    SELECT state FROM conversations_identitylookup
     WHERE chatbot_id = %(chatbot)s AND chatbot_id > 0 AND finished_at > now() - interval '1 hour'
     ORDER BY finished_at DESC LIMIT %(most)s) AS one
 GROUP BY one.state
"""


class ResolverTrouble(NamedTuple):
    """A resolver that is off, fails all calls, or leaves look-ups waiting. `since` is when that began."""

    slug: str
    off_reason: str
    failing_since: datetime | None
    oldest: datetime | None


def called_chatbots() -> list[int]:
    """Return the chatbots whose resolver may be called: it is on, compliance enabled, and no restore closes them."""
    on = Resolver.objects.filter(off_reason="", chatbot__compliance_enabled=True, chatbot__closed_at=None)
    return list(on.values_list("chatbot_id", flat=True))


def due_chatbots(chatbots: Collection[int]) -> list[int]:
    """Return the chatbots among these that have due look-ups.

    In a transaction, the statements that follow read in the order of indexes too.
    """
    return [chatbot for (chatbot,) in _of_each_place(_DUE_CHATBOTS, chatbots)]


def is_any_due() -> bool:
    return bool(due_chatbots(called_chatbots()))


def oldest(chatbots: Collection[int]) -> dict[int, datetime]:
    """Return the time since which the oldest uncalled look-up of each chatbot has waited, if there is one."""
    return dict(_of_each_place(_OLDEST, chatbots))


def _of_each_place(statement: str, chatbots: Collection[int]) -> Iterator[Any]:
    for together in by_place({chatbot: chatbot for chatbot in machines.reachable(chatbots)}):
        yield from fetch_in_index_order(statement, {"chatbots": array(together)})


def failing_resolvers(now: datetime, chatbots: Collection[int] | None = None) -> list[ResolverTrouble]:
    """Return the resolvers with something to report, of all chatbots or of these."""
    rows = Resolver.objects.select_related("chatbot").filter(chatbot__compliance_enabled=True).order_by("chatbot")
    if chatbots is not None:
        rows = rows.filter(chatbot__in=chatbots)
    found = list(rows)
    waiting = oldest([one.pk for one in found if one.is_on])
    troubles = []
    for one in found:
        since, first = one.failing_since, waiting.get(one.pk)
        # A resolver that was not called for long may work again; waits between attempts are shorter.
        is_called = one.called_at is not None and now - one.called_at < 2 * LONGEST_WAIT
        is_failing = one.is_on and is_called and since is not None and now - since > LONGEST_WAIT
        is_late = first is not None and now - first > LONGEST_WAIT
        if is_failing or is_late or not one.is_on:
            slug = one.chatbot.slug
            troubles.append(
                ResolverTrouble(slug, one.off_reason, since if is_failing else None, first if is_late else None)
            )
    return troubles


@dataclass(frozen=True)
class ResolverOverview:
    """A resolver and its look-ups. Counts stop at MOST_COUNTED; `ended` are those of the last hour, by state."""

    resolver: Resolver
    sent: list[str]
    session_token: str | None
    waiting: int
    oldest: datetime | None
    ended: dict[str, int]

    @property
    def last_error(self) -> str:
        """The error of the last failed call in words; empty if none failed."""
        error = self.resolver.last_error
        return str(IdentityLookup.Failure(error).label) if error in IdentityLookup.Failure.values else ""


def overview_of(chatbot: Chatbot) -> ResolverOverview | None:
    """Return the overview of a chatbot's resolver, which may have been read with it; None without one."""
    resolver: Resolver | None = getattr(chatbot, "resolver", None)
    if resolver is None:
        return None
    counts = {
        state: (number, oldest)
        for state, number, oldest in fetch_in_index_order(_COUNTS, {"chatbot": chatbot.pk, "most": MOST_COUNTED})
    }
    waiting, oldest = counts.pop(State.PENDING.value)
    ended = {state.label: counts.get(state.value, (0, None))[0] for state in State if state is not State.PENDING}
    sent = resolver.sent()
    token = sent.get(resolver.session_token_id) if resolver.session_token_id else None
    return ResolverOverview(resolver, list(sent.values()), token, waiting, oldest, ended)
