"""Search conversations by a UCI value, a user name, the platform's id or a request.

Each search is bounded, and takes one or two statements. Rows show only what the log shows (`filtered_log.LogRow`).
"""

from typing import Any, NamedTuple
from uuid import UUID

from chatbots.models import Chatbot, Variable
from common.crypto import digest
from common.db import fetch_in_index_order
from conversations import filtered_log, log
from conversations.filtered_log import ROW_COLUMNS, LogRow
from conversations.sql import folded_name

MAX_RESULTS = 100
# Where no index has the order in time: this many are read, and the newest of them returned.
MAX_CANDIDATES = 1_000
MIN_NAME_LENGTH = 2


class SearchResult(NamedTuple):
    """The newest conversations, MAX_RESULTS at most."""

    rows: tuple[LogRow, ...]
    has_more: bool


NO_RESULT = SearchResult((), has_more=False)

_ROWS = f"""
SELECT c.started_at, c.id, {ROW_COLUMNS}
  FROM ({{numbers}}) AS named
 CROSS JOIN LATERAL (
       SELECT * FROM conversations_conversation WHERE id = named.id AND chatbot_id = %(chatbot)s OFFSET 0) AS c
 ORDER BY c.started_at DESC, c.id DESC LIMIT %(most)s + 1
"""  # noqa: S608  (texts of ours)

# The index holds a value's conversations nearly in the order in which they came, so it is read from its end: of very
# many, nearly the newest are read. Compared as a range: of equal keys PostgreSQL would read in any direction. An
# erased identity no longer has the value.
_BY_VALUE = """
SELECT conversation_id AS id FROM conversations_identity
 WHERE chatbot_id = %(chatbot)s AND variable_id = %(variable)s AND digest BETWEEN %(digest)s AND %(digest)s
   AND value IS NOT NULL
 ORDER BY digest DESC LIMIT %(candidates)s
"""

# Exact names newest first; beginnings in the order of the names, up to the last of all characters.
_NAMED = """
SELECT id FROM conversations_conversation
 WHERE chatbot_id = %(chatbot)s AND chatbot_id > 0 AND user_name IS NOT NULL AND deletion_request_id IS NULL
"""
_FOLDED, _GIVEN = folded_name("user_name"), folded_name("%(name)s::text")
_BY_NAME = f"""
(SELECT id FROM ({_NAMED} AND {_FOLDED} = {_GIVEN} ORDER BY started_at DESC, id DESC LIMIT %(most)s + 1) AS exact)
UNION
(SELECT id FROM ({_NAMED} AND {_FOLDED} > {_GIVEN} AND {_FOLDED} < {_GIVEN} || U&'\\+10FFFF'
                 ORDER BY {_FOLDED} LIMIT %(candidates)s) AS beginning)
"""  # noqa: S608
_BY_REQUEST = """
SELECT id FROM conversations_conversation
 WHERE chatbot_id = %(chatbot)s AND deletion_request_id = %(request)s LIMIT %(candidates)s
"""


def by_value(*, chatbot: Chatbot, variable: Variable, value: str) -> SearchResult:
    """Return the conversations with exactly this UCI value, including marked ones."""
    return _search(_BY_VALUE, chatbot, variable=variable.pk, digest=digest("chatter", variable.public_id, value))


def by_name(*, chatbot: Chatbot, name: str) -> SearchResult:
    """Return open conversations whose user name begins with this, ignoring case."""
    return _search(_BY_NAME, chatbot, name=name)


def by_request(*, chatbot: Chatbot, request_id: UUID) -> SearchResult:
    return _search(_BY_REQUEST, chatbot, request=request_id)


def by_id(*, chatbot: Chatbot, external_id: str) -> SearchResult:
    """Return the conversation with the platform's id; an erased one as long as its digest is kept."""
    (entry,) = log.look_up([external_id], chatbot=chatbot)
    return NO_RESULT if entry is None else by_number(chatbot=chatbot, number=entry.conversation.pk)


def by_number(*, chatbot: Chatbot, number: int) -> SearchResult:
    return _search("SELECT %(number)s::bigint AS id", chatbot, number=number)


def combine(first: SearchResult, second: SearchResult) -> SearchResult:
    """Return both results without duplicates, the rows of the first before those of the second."""
    numbers = {row.number for row in first.rows}
    rows = (*first.rows, *(row for row in second.rows if row.number not in numbers))
    return SearchResult(rows[:MAX_RESULTS], has_more=first.has_more or second.has_more or len(rows) > MAX_RESULTS)


def _search(numbers: str, chatbot: Chatbot, **values: Any) -> SearchResult:
    values |= {"chatbot": chatbot.pk, "most": MAX_RESULTS, "candidates": MAX_CANDIDATES}
    found = fetch_in_index_order(_ROWS.format(numbers=numbers), values)
    rows = tuple(map(filtered_log.row_of, found))
    return SearchResult(rows[:MAX_RESULTS], has_more=len(rows) > MAX_RESULTS)
