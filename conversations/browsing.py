"""The conversations log as staff browse it: one chatbot's, newest first, filtered, page by page.

A page comes from one statement, so what is shown of a conversation is of one instant: either it was not marked then,
or what is kept of it is shown alone, and no filter has told more about it.

The filters look at the entries of the index `conversation_log`, which holds what they ask for, and the table's rows
are read for what is shown alone. Where little fits, a page ends after MOST_LOOKED_AT entries, says how far back it
has looked, and the next page goes on from there: so none costs more than some ten milliseconds, however rare the
thing is and however long the window.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, NamedTuple
from uuid import UUID

from django.db import connection, models

from chatbots.models import Chatbot
from common.db import array, fetch
from conversations.models import Conversation

PAGE = 50
MOST_LOOKED_AT = 20_000
# Of entries whose rows have to be read to know whether they fit.
MOST_READ = 2_000


class Score(models.TextChoices):
    LOW = "low", "1 to 3.9"
    MIDDLE = "middle", "4 to 6.9"
    HIGH = "high", "7 to 10"
    NONE = "none", "No score"


class Csat(models.TextChoices):
    POSITIVE = "positive", "Vote: positive"
    NEUTRAL = "neutral", "Vote: neutral"
    NEGATIVE = "negative", "Vote: negative"
    LOW = "low", "Score 0 to 3"
    MIDDLE = "middle", "Score 4 to 6"
    HIGH = "high", "Score 7 to 10"
    COMMENT = "comment", "With comment"
    NONE = "none", "None given"


class State(models.TextChoices):
    LIVE = "live", "Not deleted"
    MARKED = "marked", "Deletion under way"
    DELETED = "deleted", "Deleted"


@dataclass(frozen=True)
class Filters:
    """What is looked for; None asks for nothing. `language` is a primary subtag such as `pt`.

    Language and comment are looked at in open conversations alone: of a closed one nobody may learn them.
    """

    channel: Conversation.Channel | None = None
    language: str | None = None
    score: Score | None = None
    has_agent_handover: bool | None = None
    has_push: bool | None = None
    has_file_upload: bool | None = None
    csat: Csat | None = None
    state: State | None = None

    @property
    def chosen(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if value is not None}


class Place(NamedTuple):
    """Where a conversation stands in the log."""

    started_at: datetime
    number: int


class Row(NamedTuple):
    """What the log shows of a conversation. Of a closed one `began_at` is a UTC day, and no personal field is set."""

    place: Place
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
class Page:
    """A page of the log: newest first. `older` and `newer` are the places behind which the pages beside it begin.

    `looked_to` is set where the page ended for the number of entries it looked at: there may be more beyond.
    """

    rows: list[Row]
    older: Place | None
    newer: Place | None
    looked_to: datetime | None


# What is shown of a conversation `c`, in the order of Row.
SHOWN = """
c.id, c.channel,
CASE WHEN c.deletion_request_id IS NULL THEN c.started_at
     ELSE date_trunc('day', c.started_at AT TIME ZONE 'UTC') AT TIME ZONE 'UTC' END,
c.has_file_upload, c.has_agent_handover, c.has_push, c.score, c.csat_score, c.csat_vote,
c.deletion_request_id, c.deleted_at,
CASE WHEN c.deletion_request_id IS NULL THEN c.user_name END,
CASE WHEN c.deletion_request_id IS NULL THEN c.message_count END,
c.deletion_request_id IS NULL AND c.csat_comment IS NOT NULL
"""

# The innermost part reads at most so many entries of an index and stops as soon as the page is full. Its last one is
# found whether or not it fits: from there the next page goes on. OFFSET 0 keeps PostgreSQL at one look-up for each
# row that is shown.
_PAGE = """
SELECT found.place, found.fits, found.started_at, found.id, {shown}
  FROM (SELECT id, started_at, place, {fits} AS fits
          FROM (SELECT entry.*, row_number() OVER () AS place
                  FROM (SELECT id, started_at, channel, language, score, has_agent_handover, has_push,
                               has_file_upload, csat_score, csat_vote, deletion_request_id, deleted_at,
                               csat_comment IS NOT NULL AS has_comment
                          FROM conversations_conversation
                         WHERE chatbot_id = %(chatbot)s AND {within}
                         ORDER BY started_at {order}, id {order} LIMIT %(most)s) AS entry) AS looked
         WHERE {fits} OR place = %(most)s LIMIT %(rows)s) AS found
  LEFT JOIN LATERAL (
       SELECT * FROM conversations_conversation WHERE id = found.id AND found.fits OFFSET 0) AS c ON TRUE
 ORDER BY found.place
"""

_ROWS = f"""
SELECT c.started_at, c.id, {SHOWN}
  FROM unnest(%s::bigint[]) AS wanted(id)
 CROSS JOIN LATERAL (SELECT * FROM conversations_conversation WHERE id = wanted.id AND chatbot_id = %s OFFSET 0) AS c
 ORDER BY c.started_at DESC, c.id DESC
"""  # noqa: S608  (texts of ours)

# Without statistics PostgreSQL takes a chatbot for small, and would rather sort all of it than read it in order.
_IN_ORDER = "SELECT set_config('enable_sort', 'off', TRUE), set_config('enable_bitmapscan', 'off', TRUE)"

_SCORES = {
    Score.LOW: "score < 4",
    Score.MIDDLE: "score >= 4 AND score < 7",
    Score.HIGH: "score >= 7",
    Score.NONE: "score IS NULL",
}
_CSATS = {
    Csat.POSITIVE: "csat_vote = 'positive'",
    Csat.NEUTRAL: "csat_vote = 'neutral'",
    Csat.NEGATIVE: "csat_vote = 'negative'",
    Csat.LOW: "csat_score <= 3",
    Csat.MIDDLE: "csat_score BETWEEN 4 AND 6",
    Csat.HIGH: "csat_score >= 7",
    Csat.COMMENT: "deletion_request_id IS NULL AND has_comment",
    Csat.NONE: "csat_score IS NULL AND csat_vote IS NULL",
}
_STATES = {
    State.LIVE: "deletion_request_id IS NULL",
    State.MARKED: "deletion_request_id IS NOT NULL AND deleted_at IS NULL",
    State.DELETED: "deleted_at IS NOT NULL",
}


def read_page(
    *,
    chatbot: Chatbot,
    filters: Filters,
    starts_at: datetime,
    ends_at: datetime,
    behind: Place | None = None,
    is_backwards: bool = False,
) -> Page:
    """Return a page of the log between two instants (`ends_at` excluded): the newest, or what is `behind` a place.

    `is_backwards` gives what is newer than the place.
    """
    plan = _plan(filters)
    values: dict[str, Any] = {
        **filters.chosen,
        "chatbot": chatbot.pk,
        "starts_at": starts_at,
        "ends_at": ends_at,
        "most": plan.most,
        "rows": PAGE + 1,
    }
    since, until = "started_at >= %(starts_at)s", "started_at < %(ends_at)s"
    if behind is not None and starts_at <= behind.started_at < ends_at:
        # Instead of the window's own end: with both, PostgreSQL may begin at that one and walk to the place.
        values |= {"place_at": behind.started_at, "place_number": behind.number}
        if is_backwards:
            since = "(started_at, id) > (%(place_at)s, %(place_number)s)"
        else:
            until = "(started_at, id) < (%(place_at)s, %(place_number)s)"
    within = f"{since} AND {until} {plan.within}"
    statement = _PAGE.format(shown=SHOWN, fits=plan.fits, within=within, order="ASC" if is_backwards else "DESC")
    with connection.cursor() as cursor:
        # Sent together, which makes one transaction of them where there is none: the settings end with it.
        cursor.execute(f"{_IN_ORDER};{statement}", values)
        cursor.nextset()
        found = cursor.fetchall()
    rows = [row_of(each[2:]) for each in found if each[1]]
    more: Place | None = None
    looked_to: datetime | None = None
    if len(rows) > PAGE:
        rows = rows[:PAGE]
        more = rows[-1].place
    elif found and found[-1][0] == plan.most:
        more = Place(*found[-1][2:4])
        looked_to = more.started_at
    return _between(rows, behind, more, looked_to, is_backwards=is_backwards)


def row_of(found: Sequence[Any]) -> Row:
    """Return a row of a statement that gives the start, the number and SHOWN."""
    return Row(Place(*found[:2]), *found[2:])


def newest_before(chatbot: Chatbot, before: datetime) -> datetime | None:
    """Return when the newest conversation that began before an instant did, by one look into the index."""
    found = Conversation.objects.filter(chatbot=chatbot, started_at__lt=before).order_by("-started_at", "-id")
    return found.values_list("started_at", flat=True).first()


def read_rows(numbers: Sequence[int], *, chatbot: Chatbot) -> list[Row]:
    """Return the chatbot's conversations with these numbers as the log shows them, newest first, in one statement."""
    return [row_of(each) for each in fetch(_ROWS, [array(list(numbers)), chatbot.pk])]


class _Plan(NamedTuple):
    """How a page is found: which entries are looked at, how many of them at most, and which of those fit."""

    within: str
    fits: str
    most: int


def _plan(filters: Filters) -> _Plan:
    chosen = filters.chosen
    # What an index of its own finds, and nothing else: a page of it reads as much as it shows.
    if chosen.keys() <= {"channel"}:
        return _Plan("AND channel = %(channel)s" if chosen else "", "TRUE", PAGE + 1)
    if chosen == {"state": State.DELETED}:
        return _Plan("AND deletion_request_id IS NOT NULL", _STATES[State.DELETED], MOST_READ)
    most = MOST_READ if filters.csat == Csat.COMMENT else MOST_LOOKED_AT
    return _Plan("", " AND ".join(f"({one})" for one in _conditions(filters)), most)


def _conditions(filters: Filters) -> Iterator[str]:
    if filters.channel is not None:
        yield "channel = %(channel)s"
    if filters.language is not None:
        yield "deletion_request_id IS NULL AND lower(substring(language FROM '^[A-Za-z]*')) = %(language)s"
    for name in ("has_agent_handover", "has_push", "has_file_upload"):
        if getattr(filters, name) is not None:
            yield f"{name} = %({name})s"
    if filters.score is not None:
        yield _SCORES[filters.score]
    if filters.csat is not None:
        yield _CSATS[filters.csat]
    if filters.state is not None:
        yield _STATES[filters.state]


def _between(
    rows: list[Row], behind: Place | None, more: Place | None, looked_to: datetime | None, *, is_backwards: bool
) -> Page:
    if is_backwards:
        rows.reverse()
        return Page(rows, older=rows[-1].place if rows else behind, newer=more, looked_to=looked_to)
    newer = rows[0].place if rows and behind else behind
    return Page(rows, older=more, newer=newer, looked_to=looked_to)
