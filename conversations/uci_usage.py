"""How many conversations carry a value of each variable that is, or was, a chatbot's UCI."""

from typing import NamedTuple

from chatbots.models import Chatbot
from common.db import fetch

# Counting stops here, so that a page may ask at any size: 100,000 entries of an index take 10 ms after a VACUUM, and
# 90 ms before it.
MOST = 100_000

# In the order of the index on (chatbot, variable, value), which then serves alone: by statistics of the average
# variable, reading the whole table could look cheaper, and of a variable with few rows it would read all. Identities
# are counted, for the index does not know whether two are of one conversation.
_COUNT = """
SELECT variable.id, counted.identities
  FROM chatbots_variable AS variable
 CROSS JOIN LATERAL (
       SELECT count(*) AS identities
         FROM (SELECT 1
                 FROM conversations_identity
                WHERE chatbot_id = variable.chatbot_id AND variable_id = variable.id
                ORDER BY chatbot_id, variable_id, value
                LIMIT %s) AS carried
       ) AS counted
 WHERE variable.chatbot_id = %s AND (variable.is_uci OR variable.was_uci)
"""


class Carried(NamedTuple):
    """A number of conversations, or MOST where there are more."""

    conversations: int
    is_more: bool


def conversations_by_uci(*, chatbot: Chatbot) -> dict[int, Carried]:
    """Return the count of each present or former UCI, by the variable's id. One statement, bounded in what it reads.

    A conversation in which two people took part counts twice.
    """
    return {
        variable: Carried(min(count, MOST), count > MOST) for variable, count in fetch(_COUNT, [MOST + 1, chatbot.pk])
    }
