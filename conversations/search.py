"""Search conversations by a UCI value, a user name, the platform's id or a request.

Each search is bounded, and takes one or two statements. Rows have only the fields of the log (`filtered_log.LogRow`).
"""

import unicodedata
from collections.abc import Sequence
from typing import Any, NamedTuple
from uuid import UUID

from chatbots.models import Chatbot, Variable
from common import folding
from common.crypto import digest
from common.db import array, fetch_in_index_order
from conversations import filtered_log, log
from conversations.filtered_log import ROW_COLUMNS, LogRow

MAX_RESULTS = 100
# The number of rows that are read if no index has the order in time. The newest of them are returned.
MAX_CANDIDATES = 1_000
MIN_NAME_LENGTH = 2
# The most words of a name: each examined conversation costs an index look-up for each word.
MAX_WORDS = 5


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
 WHERE {{condition}}
 ORDER BY c.started_at DESC, c.id DESC LIMIT %(most)s + 1
"""  # noqa: S608  (texts of ours)

# The index holds a value's conversations nearly in the order in which they came, so it is read from its end: of very
# many conversations, nearly the newest are read. The digest is compared as a range: PostgreSQL reads equal keys in
# any direction. An erased identity no longer has the value.
_BY_VALUE = """
SELECT conversation_id AS id FROM conversations_identity
 WHERE chatbot_id = %(chatbot)s AND variable_id = %(variable)s AND digest BETWEEN %(digest)s AND %(digest)s
   AND value IS NOT NULL
 ORDER BY digest DESC LIMIT %(candidates)s
"""

# Index entries are counted for each word, up to a limit. Then the conversations of the rarest word are examined:
# those with exactly this word, the last stored ones first, and those with longer words in the order of the words.
# U+10FFFF is the last of all characters, and no letter.
_WORDS = "conversations_nameword WHERE chatbot_id = %(chatbot)s AND word > ''"
_LAST = "U&'\\+10FFFF'"
_NAMED = f"""
WITH rarest AS MATERIALIZED (
    SELECT given.word
      FROM unnest(%(words)s::text[]) AS given(word)
     CROSS JOIN LATERAL (
           SELECT count(*) AS entries
             FROM (SELECT FROM {_WORDS} AND word >= given.word AND word < given.word || {_LAST}
                    ORDER BY word LIMIT %(candidates)s) AS counted
           ) AS range
     ORDER BY range.entries LIMIT 1
), exact AS MATERIALIZED (
    SELECT id FROM rarest CROSS JOIN LATERAL (
           SELECT conversation_id AS id FROM {_WORDS} AND word = rarest.word
            ORDER BY conversation_id DESC LIMIT %(candidates)s) AS found
), longer AS MATERIALIZED (
    SELECT id FROM rarest CROSS JOIN LATERAL (
           SELECT conversation_id AS id FROM {_WORDS} AND word > rarest.word AND word < rarest.word || {_LAST}
            ORDER BY word LIMIT %(candidates)s) AS found
)
SELECT greatest((SELECT count(*) FROM exact), (SELECT count(*) FROM longer)), ARRAY(
       SELECT id FROM (SELECT id FROM exact UNION SELECT id FROM longer) AS candidate
        WHERE NOT EXISTS (
              SELECT FROM unnest(%(words)s::text[]) AS given(word)
               WHERE given.word <> (SELECT word FROM rarest) AND NOT EXISTS (
                     SELECT FROM conversations_nameword
                      WHERE chatbot_id = %(chatbot)s AND conversation_id = candidate.id
                        AND word >= given.word AND word < given.word || {_LAST})))
"""  # noqa: S608
# The chatbots that have each of these words, or a longer one, in some name.
_CHATBOTS_WITH_WORDS = f"""
SELECT asked.id
  FROM unnest(%(chatbots)s::bigint[]) AS asked(id)
 WHERE NOT EXISTS (
       SELECT FROM unnest(%(words)s::text[]) AS given(word)
        WHERE NOT EXISTS (
              SELECT FROM conversations_nameword
               WHERE chatbot_id = asked.id AND chatbot_id = ANY(%(chatbots)s) AND word > ''
                 AND word >= given.word AND word < given.word || {_LAST} OFFSET 0) OFFSET 0)
"""  # noqa: S608
_BY_REQUEST = """
SELECT id FROM conversations_conversation
 WHERE chatbot_id = %(chatbot)s AND deletion_request_id = %(request)s LIMIT %(candidates)s
"""


def by_value(*, chatbot: Chatbot, variable: Variable, value: str) -> SearchResult:
    """Return the conversations with exactly this UCI value, including marked ones."""
    return _search(_BY_VALUE, chatbot, variable=variable.pk, digest=digest("chatter", variable.public_id, value))


def by_name(*, chatbot: Chatbot, name: str) -> SearchResult:
    """Return open conversations whose user name has, for each word of this one, a word that begins with it.

    Only the MAX_WORDS longest words of a text are used. `has_more` is also true if not all conversations with the
    rarest of the words were examined.
    """
    given = {"chatbot": chatbot.pk, "candidates": MAX_CANDIDATES, "words": _sought(name)}
    [(most_read, numbers)] = fetch_in_index_order(_NAMED, given)
    found = _search(
        "SELECT unnest(%(named)s::bigint[]) AS id",
        chatbot,
        condition="c.deletion_request_id IS NULL",
        named=array(numbers),
    )
    return found._replace(has_more=found.has_more or most_read >= MAX_CANDIDATES)


def chatbots_with_words(name: str, *, chatbot_ids: Sequence[int]) -> set[int]:
    """Return the chatbots in which `by_name` may find something."""
    given = {"chatbots": list(chatbot_ids), "words": _sought(name)}
    return {number for (number,) in fetch_in_index_order(_CHATBOTS_WITH_WORDS, given)}


def is_long_enough(name: str) -> bool:
    """Return whether a name can be looked up: by MIN_NAME_LENGTH letters or digits, or by one Chinese character."""
    letters = "".join(folding.words(name))
    return len(letters) >= MIN_NAME_LENGTH or (letters != "" and unicodedata.category(letters) == "Lo")


def _sought(name: str) -> list[str]:
    """Return the words to look up, without those that are the beginning of another one."""
    words: list[str] = []
    for word in sorted(folding.words(name), key=len, reverse=True):
        if not any(longer.startswith(word) for longer in words):
            words.append(word)
    return words[:MAX_WORDS]


def by_request(*, chatbot: Chatbot, request_id: UUID) -> SearchResult:
    return _search(_BY_REQUEST, chatbot, request=request_id)


def by_id(*, chatbot: Chatbot, external_id: str) -> SearchResult:
    """Return the conversation with the platform's id. An erased one is found as long as its digest is kept."""
    (entry,) = log.look_up([external_id], chatbot=chatbot)
    return NO_RESULT if entry is None else by_number(chatbot=chatbot, number=entry.conversation.pk)


def by_number(*, chatbot: Chatbot, number: int) -> SearchResult:
    return _search("SELECT %(number)s::bigint AS id", chatbot, number=number)


def combine(first: SearchResult, second: SearchResult) -> SearchResult:
    """Return both results without duplicates, the rows of the first before those of the second."""
    numbers = {row.number for row in first.rows}
    rows = (*first.rows, *(row for row in second.rows if row.number not in numbers))
    return SearchResult(rows[:MAX_RESULTS], has_more=first.has_more or second.has_more or len(rows) > MAX_RESULTS)


def _search(numbers: str, chatbot: Chatbot, *, condition: str = "TRUE", **values: Any) -> SearchResult:
    values |= {"chatbot": chatbot.pk, "most": MAX_RESULTS, "candidates": MAX_CANDIDATES}
    found = fetch_in_index_order(_ROWS.format(numbers=numbers, condition=condition), values)
    rows = tuple(map(filtered_log.row_of, found))
    return SearchResult(rows[:MAX_RESULTS], has_more=len(rows) > MAX_RESULTS)
