"""Values that look like the one of a request: the most common mistake in filing one.

Another key, another case, spaces around it, leading zeros or a letter of another script make another chatter. Values
are found by an index of `Identity.look`, with one look-up for each value, however many conversations have it.
"""

import unicodedata
from collections.abc import Sequence
from typing import NamedTuple

from common.db import fetch
from common.folding import look_alike, look_hash, without_invisible
from conversations.sql import SPACES, value_hash

MOST_FOUND = 20
# Counting the conversations of a value stops here.
MOST_COUNTED = 1_000

_DIFFERS = {
    "key": "in its key",
    "case": "in upper and lower case",
    "padding": "in leading or trailing spaces or zeros",
    "look": "in characters that look the same or are invisible",
}

# Without `variable_id > 0`, only the index of looks fits this condition.
_LOOKS_SO = "i.look = asked.look"

# Skips along the index from one value to the next. This includes the own value, and values that only share the hash.
# The conversations of each value are found by its digest, as everywhere.
_SIMILAR = f"""
WITH RECURSIVE alike(variable_id, hash, value, digest, steps) AS (
    (SELECT i.variable_id, {value_hash("i.value")}, i.value, i.digest, 1
       FROM conversations_identity i
      WHERE i.chatbot_id = %(chatbot)s AND {_LOOKS_SO}
      ORDER BY i.variable_id, {value_hash("i.value")} LIMIT 1)
    UNION ALL
    SELECT another.*, alike.steps + 1
      FROM alike
     CROSS JOIN LATERAL (
           SELECT i.variable_id, {value_hash("i.value")}, i.value, i.digest
             FROM conversations_identity i
            WHERE i.chatbot_id = %(chatbot)s AND {_LOOKS_SO}
              AND (i.variable_id, {value_hash("i.value")}) > (alike.variable_id, alike.hash)
            ORDER BY i.variable_id, {value_hash("i.value")} LIMIT 1) AS another
     WHERE alike.steps < %(steps)s
)
SELECT alike.variable_id, v.name, alike.value, live.conversations
  FROM alike
 CROSS JOIN LATERAL (SELECT name FROM chatbots_variable WHERE id = alike.variable_id OFFSET 0) AS v
 CROSS JOIN LATERAL (
       SELECT count(*) AS conversations
         FROM (SELECT FROM conversations_identity i
                CROSS JOIN LATERAL (
                      SELECT FROM conversations_conversation
                       WHERE chatbot_id = %(chatbot)s AND id = i.conversation_id AND deletion_request_id IS NULL
                      OFFSET 0) AS c
                WHERE i.chatbot_id = %(chatbot)s AND i.variable_id = alike.variable_id AND i.variable_id > 0
                  AND i.digest = alike.digest
                LIMIT %(most)s) AS each) AS live
 WHERE (alike.variable_id, alike.value) IS DISTINCT FROM (%(variable)s, asked.value)
"""  # noqa: S608  (texts of ours)
_SIMILAR_TO_EACH = f"""
SELECT asked.place, alike.*
  FROM unnest(%(values)s::text[], %(looks)s::bigint[]) WITH ORDINALITY AS asked(value, look, place)
 CROSS JOIN LATERAL ({_SIMILAR}) AS alike
"""  # noqa: S608  (a text of ours)


_CHATBOTS_WITH = """
SELECT asked.chatbot_id
  FROM unnest(%(chatbots)s::bigint[]) AS asked(chatbot_id)
 WHERE EXISTS (
       SELECT FROM conversations_identity i
        WHERE i.chatbot_id = asked.chatbot_id AND i.chatbot_id = ANY(%(chatbots)s)
          AND i.look = %(look)s OFFSET 0)
"""


class Similar(NamedTuple):
    """Another chatter with a value that looks similar; `differs_in` are the kinds of differences."""

    key: str
    value: str
    conversations: int
    differs_in: list[str]

    @property
    def differs(self) -> str:
        return ", ".join(_DIFFERS[way] for way in self.differs_in)


def find(
    *,
    chatbot_id: int,
    variable_id: int,
    values: Sequence[str],
    most: int = MOST_FOUND,
    most_counted: int = MOST_COUNTED,
) -> list[list[Similar]]:
    """Return for each value the chatters with live conversations whose values look like it, under any key."""
    asked: dict[str, int | list[str] | list[int]] = {
        "chatbot": chatbot_id,
        "variable": variable_id,
        "values": list(values),
        "looks": [look_hash(value) for value in values],
        "steps": 2 * most,
        "most": most_counted,
    }
    each: list[list[Similar]] = [[] for _ in values]
    for place, other_variable, name, other, conversations in fetch(_SIMILAR_TO_EACH, asked):
        value, found = values[place - 1], each[place - 1]
        if conversations and len(found) < most and look_alike(other) == look_alike(value):
            differences = _differences(value, other, is_other_key=other_variable != variable_id)
            found.append(Similar(name, other, conversations, differences))
    return each


def chatbots_with(value: str, *, chatbot_ids: Sequence[int]) -> set[int]:
    """Return the chatbots that have this value or one that looks like it."""
    given = {"chatbots": list(chatbot_ids), "look": look_hash(value)}
    return {number for (number,) in fetch(_CHATBOTS_WITH, given)}


def _differences(value: str, other: str, *, is_other_key: bool) -> list[str]:
    before, core, after = _parts(value)
    other_before, other_core, other_after = _parts(other)
    looks_other = core.casefold() != other_core.casefold()
    differences = {
        "key": is_other_key,
        "case": _capitals(core) != _capitals(other_core) if looks_other else core != other_core,
        "padding": (before, after) != (other_before, other_after),
        "look": looks_other,
    }
    return [name for name, differs in differences.items() if differs]


def _parts(value: str) -> tuple[str, str, str]:
    """Return the padding before a value, its core, and the padding after it. The core of zeros alone is one zero."""
    bare = value.strip(SPACES)
    core = bare.lstrip("0" + SPACES) or bare[:1]
    before, _, after = value.partition(core) if core else (value, "", "")
    return before, core, after


def _capitals(core: str) -> list[bool]:
    """Return whether each letter is a capital."""
    drawn = unicodedata.normalize("NFKD", without_invisible(core))
    return [character.isupper() for character in drawn if character.isalpha()]
