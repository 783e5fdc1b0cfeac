"""The conversations log of one chatbot, filtered, newest first, in pages.

A page comes from one statement, so it shows a conversation at one instant: either not yet marked, or with only the
fields that are kept after deletion, and no filter reveals more.

Filters read only the entries of the index `conversation_log`. Table rows are read only for the rows of the page. If
few rows match, a page ends after MAX_ENTRIES index entries and reports its last position, where the next page begins.
So no page costs more than some ten milliseconds, whatever the filter and the window.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, NamedTuple
from uuid import UUID

from django.db import models

from chatbots.models import Chatbot
from common.db import fetch_in_index_order
from conversations.models import Conversation
from conversations.models.conversations import EARLIEST

PAGE_SIZE = 50
MAX_ENTRIES = 20_000
# The limit for entries whose rows have to be read for the filter.
MAX_ENTRIES_WITH_ROWS = 2_000


class ScoreFilter(models.TextChoices):
    LOW = "low", "1 to 3.9"
    MIDDLE = "middle", "4 to 6.9"
    HIGH = "high", "7 to 10"
    NONE = "none", "No score"


class CsatFilter(models.TextChoices):
    POSITIVE = "positive", "Vote: positive"
    NEUTRAL = "neutral", "Vote: neutral"
    NEGATIVE = "negative", "Vote: negative"
    LOW = "low", "Score 0 to 3"
    MIDDLE = "middle", "Score 4 to 6"
    HIGH = "high", "Score 7 to 10"
    COMMENT = "comment", "With comment"
    NONE = "none", "None given"


class StateFilter(models.TextChoices):
    LIVE = "live", "Not deleted"
    MARKED = "marked", "Deletion in progress"
    DELETED = "deleted", "Deleted"


@dataclass(frozen=True)
class LogFilters:
    """A None is no filter. `language` is a primary subtag such as `pt`.

    Language and comment match open conversations only: they must not be revealed for a closed one.
    """

    channel: Conversation.Channel | None = None
    language: str | None = None
    score: ScoreFilter | None = None
    has_agent_handover: bool | None = None
    has_push: bool | None = None
    has_file_upload: bool | None = None
    csat: CsatFilter | None = None
    state: StateFilter | None = None

    @property
    def chosen(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if value is not None}


class LogPosition(NamedTuple):
    started_at: datetime
    number: int


class LogRow(NamedTuple):
    """A conversation in the log. A closed one has a UTC day as `began_at`, and no personal field."""

    position: LogPosition
    number: int
    channel: str
    began_at: datetime
    has_file_upload: bool
    has_agent_handover: bool
    has_push: bool
    score: Decimal | None
    csat_score: int | None
    csat_vote: str | None
    request_id: UUID | None
    deleted_at: datetime | None
    user_name: str | None
    message_count: int | None
    has_comment: bool

    @property
    def is_closed(self) -> bool:
        return self.request_id is not None

    @property
    def channel_label(self) -> str:
        return Conversation.Channel(self.channel).label

    @property
    def csat_label(self) -> str:
        vote = [] if self.csat_vote is None else [str(Conversation.CsatVote(self.csat_vote).label)]
        return ", ".join(vote + ([] if self.csat_score is None else [str(self.csat_score)]))


@dataclass(frozen=True)
class LogPage:
    """A page, newest first, and the positions at which the older and the newer page begin (both excluded).

    `searched_to` is set if the page ended at MAX_ENTRIES: there may be more rows beyond that instant.
    """

    rows: list[LogRow]
    older: LogPosition | None
    newer: LogPosition | None
    searched_to: datetime | None


# The columns of a LogRow after its position, from a conversation `c`.
ROW_COLUMNS = """
c.id, c.channel,
CASE WHEN c.deletion_request_id IS NULL THEN c.started_at
     ELSE date_trunc('day', c.started_at AT TIME ZONE 'UTC') AT TIME ZONE 'UTC' END,
c.has_file_upload, c.has_agent_handover, c.has_push, c.score, c.csat_score, c.csat_vote,
c.deletion_request_id, c.deleted_at,
CASE WHEN c.deletion_request_id IS NULL THEN c.user_name END,
CASE WHEN c.deletion_request_id IS NULL THEN c.message_count END,
c.deletion_request_id IS NULL AND c.csat_comment IS NOT NULL
"""

# The innermost query reads at most `max_entries` of an index and stops when the page is full. Its last entry is
# returned whether or not it matches: the next page starts there.
_PAGE = """
SELECT found.place, found.matches, found.started_at, found.id, {columns}
  FROM (SELECT id, started_at, place, {condition} AS matches
          FROM (SELECT entry.*, row_number() OVER () AS place
                  FROM (SELECT id, started_at, channel, language, score, has_agent_handover, has_push,
                               has_file_upload, csat_score, csat_vote, deletion_request_id, deleted_at,
                               csat_comment IS NOT NULL AS has_comment
                          FROM conversations_conversation
                         WHERE chatbot_id = %(chatbot)s AND started_at > %(earliest)s AND {window}
                         ORDER BY started_at {order}, id {order} LIMIT %(max_entries)s) AS entry) AS looked
         WHERE {condition} OR place = %(max_entries)s LIMIT %(rows)s) AS found
  LEFT JOIN LATERAL (
       SELECT * FROM conversations_conversation
        WHERE id = found.id AND chatbot_id = %(chatbot)s AND found.matches) AS c ON TRUE
 ORDER BY found.place
"""

# The conditions of the filters that are not a plain comparison with a column.
_CONDITIONS: dict[str, dict[str, str]] = {
    "score": {
        ScoreFilter.LOW: "score < 4",
        ScoreFilter.MIDDLE: "score >= 4 AND score < 7",
        ScoreFilter.HIGH: "score >= 7",
        ScoreFilter.NONE: "score IS NULL",
    },
    "csat": {
        CsatFilter.POSITIVE: "csat_vote = 'positive'",
        CsatFilter.NEUTRAL: "csat_vote = 'neutral'",
        CsatFilter.NEGATIVE: "csat_vote = 'negative'",
        CsatFilter.LOW: "csat_score <= 3",
        CsatFilter.MIDDLE: "csat_score BETWEEN 4 AND 6",
        CsatFilter.HIGH: "csat_score >= 7",
        CsatFilter.COMMENT: "deletion_request_id IS NULL AND has_comment",
        CsatFilter.NONE: "csat_score IS NULL AND csat_vote IS NULL",
    },
    "state": {
        StateFilter.LIVE: "deletion_request_id IS NULL",
        StateFilter.MARKED: "deletion_request_id IS NOT NULL AND deleted_at IS NULL",
        StateFilter.DELETED: "deleted_at IS NOT NULL",
    },
}
_LANGUAGE = "deletion_request_id IS NULL AND lower(substring(language FROM '^[A-Za-z]*')) = %(language)s"


def read_page(
    *,
    chatbot: Chatbot,
    filters: LogFilters,
    starts_at: datetime,
    ends_at: datetime,
    behind: LogPosition | None = None,
    is_backwards: bool = False,
) -> LogPage:
    """Return the newest page between two instants (`ends_at` excluded), or the one that follows a position.

    With `is_backwards` it is the page of newer conversations than the position.
    """
    plan = _plan(filters)
    values: dict[str, Any] = {
        **filters.chosen,
        "chatbot": chatbot.pk,
        "earliest": EARLIEST,
        "starts_at": starts_at,
        "ends_at": ends_at,
        "max_entries": plan.max_entries,
        "rows": PAGE_SIZE + 1,
    }
    since, until = "started_at >= %(starts_at)s", "started_at < %(ends_at)s"
    if behind is not None and starts_at <= behind.started_at < ends_at:
        # Replaces the end of the window: with both, PostgreSQL may begin at the window's end and scan to the
        # position.
        values |= {"behind_at": behind.started_at, "behind_number": behind.number}
        if is_backwards:
            since = "(started_at, id) > (%(behind_at)s, %(behind_number)s)"
        else:
            until = "(started_at, id) < (%(behind_at)s, %(behind_number)s)"
    statement = _PAGE.format(
        columns=ROW_COLUMNS,
        condition=plan.condition,
        window=f"{since} AND {until} {plan.index_condition}",
        order="ASC" if is_backwards else "DESC",
    )
    found = fetch_in_index_order(statement, values)
    rows = [row_of(columns) for _, matches, *columns in found if matches]
    following: LogPosition | None = None
    searched_to: datetime | None = None
    if len(rows) > PAGE_SIZE:
        rows = rows[:PAGE_SIZE]
        following = rows[-1].position
    elif found and found[-1][0] == plan.max_entries:
        following = LogPosition(*found[-1][2:4])
        searched_to = following.started_at
    if is_backwards:
        rows.reverse()
        return LogPage(rows, rows[-1].position if rows else behind, following, searched_to)
    return LogPage(rows, following, rows[0].position if rows and behind else behind, searched_to)


def row_of(columns: Sequence[Any]) -> LogRow:
    """Return the LogRow of a statement that selects the start, the number and ROW_COLUMNS."""
    return LogRow(LogPosition(*columns[:2]), *columns[2:])


def newest_before(chatbot: Chatbot, before: datetime) -> datetime | None:
    """Return the start of the newest conversation that began before an instant, by one index look-up."""
    found = Conversation.objects.filter(chatbot=chatbot, started_at__gt=EARLIEST, started_at__lt=before)
    return found.order_by("-started_at", "-id").values_list("started_at", flat=True).first()


class _PagePlan(NamedTuple):
    """The plan of a page: a condition for an index, the condition on its entries, and their maximum."""

    index_condition: str
    condition: str
    max_entries: int


def _plan(filters: LogFilters) -> _PagePlan:
    chosen = filters.chosen
    # These have an index of their own, so a page reads no more entries than it shows.
    if chosen.keys() <= {"channel"}:
        return _PagePlan("AND channel = %(channel)s" if chosen else "", "TRUE", PAGE_SIZE + 1)
    if chosen == {"state": StateFilter.DELETED}:
        condition = _condition("state", StateFilter.DELETED)
        return _PagePlan("AND deletion_request_id IS NOT NULL", condition, MAX_ENTRIES_WITH_ROWS)
    max_entries = MAX_ENTRIES_WITH_ROWS if filters.csat == CsatFilter.COMMENT else MAX_ENTRIES
    return _PagePlan("", " AND ".join(f"({_condition(*one)})" for one in chosen.items()), max_entries)


def _condition(name: str, value: Any) -> str:
    if name == "language":
        return _LANGUAGE
    return _CONDITIONS[name][value] if name in _CONDITIONS else f"{name} = %({name})s"
