"""Find conversations again by what somebody knows of them: a UCI value, a name, the platform's id, a request.

Each search is bounded, and is one or two statements. What is shown is what the log shows (`browsing.Row`): of closed
conversations the kept fields alone.
"""

from typing import Any, NamedTuple
from uuid import UUID

from chatbots.models import Chatbot, Variable
from common.crypto import digest
from common.db import fetch
from conversations import browsing, log
from conversations.browsing import SHOWN, Row
from conversations.folding import folded_name

MOST_FOUND = 100
# Of what has no order in time: so many are looked at, and the newest of them shown.
MOST_LOOKED_AT = 1_000
SHORTEST_NAME = 2


class Found(NamedTuple):
    """The newest conversations, MOST_FOUND at most, and whether there are more."""

    rows: tuple[Row, ...]
    has_more: bool


NOTHING = Found((), has_more=False)

_FOUND = f"""
SELECT c.started_at, c.id, {SHOWN}
  FROM ({{numbers}}) AS named
 CROSS JOIN LATERAL (
       SELECT * FROM conversations_conversation WHERE id = named.id AND chatbot_id = %(chatbot)s OFFSET 0) AS c
 ORDER BY c.started_at DESC, c.id DESC LIMIT %(most)s + 1
"""  # noqa: S608  (texts of ours)

# A value's conversations lie in the index in the order in which they came, save for those that took the place of
# removed ones, so it is read from its end: of very many, nearly the newest are looked at. Compared as a range: of
# what is equal PostgreSQL would read in any direction. What is erased no longer has the value.
_OF_VALUE = """
SELECT conversation_id AS id FROM conversations_identity
 WHERE chatbot_id = %(chatbot)s AND variable_id = %(variable)s AND digest BETWEEN %(digest)s AND %(digest)s
   AND value IS NOT NULL
 ORDER BY digest DESC LIMIT %(looked)s
"""

# Exact names come by the newest; beginnings in the order of the names.
_NAMED = """
SELECT id FROM conversations_conversation
 WHERE chatbot_id = %(chatbot)s AND chatbot_id > 0 AND user_name IS NOT NULL AND deletion_request_id IS NULL
"""
_FOLDED, _GIVEN = folded_name("user_name"), folded_name("%(name)s::text")
# Behind every name that begins so: the last of all characters.
_OF_NAME = f"""
(SELECT id FROM ({_NAMED} AND {_FOLDED} = {_GIVEN} ORDER BY started_at DESC, id DESC LIMIT %(most)s + 1) AS exact)
UNION
(SELECT id FROM ({_NAMED} AND {_FOLDED} > {_GIVEN} AND {_FOLDED} < {_GIVEN} || U&'\\+10FFFF'
                 ORDER BY {_FOLDED} LIMIT %(looked)s) AS beginning)
"""  # noqa: S608
_OF_REQUEST = """
SELECT id FROM conversations_conversation WHERE deletion_request_id = %(request)s LIMIT %(looked)s
"""


def by_value(*, chatbot: Chatbot, variable: Variable, value: str) -> Found:
    """Return the conversations with a UCI value, as it is written; those that are marked are found too."""
    return _found(_OF_VALUE, chatbot, variable=variable.pk, digest=digest("chatter", variable.public_id, value))


def by_name(*, chatbot: Chatbot, name: str) -> Found:
    """Return open conversations whose user has this name, or one that begins so, whatever the case."""
    return _found(_OF_NAME, chatbot, name=name)


def by_request(*, chatbot: Chatbot, request_id: UUID) -> Found:
    """Return the conversations that a deletion has closed."""
    return _found(_OF_REQUEST, chatbot, request=request_id)


def by_id(*, chatbot: Chatbot, external_id: str) -> Found:
    """Return the conversation with the platform's id; an erased one is found while its digest lives."""
    (entry,) = log.look_up([external_id], chatbot=chatbot)
    return NOTHING if entry is None else by_number(chatbot=chatbot, number=entry.conversation.pk)


def by_number(*, chatbot: Chatbot, number: int) -> Found:
    return Found(tuple(browsing.read_rows([number], chatbot=chatbot)), has_more=False)


def together(first: Found, second: Found) -> Found:
    """Return what was found by two ways, each conversation once, those of the first way before the others."""
    numbers = {row.number for row in first.rows}
    rows = (*first.rows, *(row for row in second.rows if row.number not in numbers))
    return Found(rows[:MOST_FOUND], has_more=first.has_more or second.has_more or len(rows) > MOST_FOUND)


def _found(numbers: str, chatbot: Chatbot, **values: Any) -> Found:
    values |= {"chatbot": chatbot.pk, "most": MOST_FOUND, "looked": MOST_LOOKED_AT}
    rows = tuple(browsing.row_of(each) for each in fetch(_FOUND.format(numbers=numbers), values))
    return Found(rows[:MOST_FOUND], has_more=len(rows) > MOST_FOUND)
