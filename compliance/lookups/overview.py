"""What people see of a chatbot's look-ups: how many wait, and what became of those of the last hour."""

from dataclasses import dataclass
from datetime import datetime

from chatbots.models import Chatbot, Resolver
from common.db import fetch_in_index_order
from conversations.models import IdentityLookup

State = IdentityLookup.State

MOST_COUNTED = 1_000

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
        """What the last failed call was about, in words; empty if none failed."""
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
