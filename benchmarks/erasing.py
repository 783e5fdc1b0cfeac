"""The floor of an erasure in chunks: plain SQL, each chunk in a transaction of its own."""

import time
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from uuid_utils.compat import uuid7

from benchmarks import world

# By arrays of conversations' ids.
ERASE = (
    "DELETE FROM conversations_message WHERE conversation_id = ANY(%(ids)s::bigint[])",
    "DELETE FROM conversations_identity WHERE conversation_id = ANY(%(ids)s::bigint[])",
    "DELETE FROM conversations_nameword WHERE conversation_id = ANY(%(ids)s::bigint[])",
    """
    UPDATE conversations_conversation
       SET external_id = NULL, uci_variable_id = NULL, language = NULL, user_name = NULL, last_message_at = NULL,
           message_count = NULL, csat_comment = NULL, deletion_request_id = %(request)s, deleted_at = now(),
           started_at = date_trunc('day', started_at AT TIME ZONE 'UTC') AT TIME ZONE 'UTC'
     WHERE id = ANY(%(ids)s::bigint[])
    """,
)


def erase_in_chunks(find: str, parameters: Sequence[Any], *, chunk: int) -> tuple[float, float]:
    """Erase the conversations whose ids the statement `find` selects, `chunk` of them in a transaction.

    Returns the seconds of all and of the longest transaction.
    """
    marks = [time.perf_counter()]
    with world.plain_connection() as connection:
        ids = [row[0] for row in connection.execute(find, parameters)]
        for start in range(0, len(ids), chunk):
            for statement in ERASE:
                values = {"ids": ids[start : start + chunk], "request": uuid7()}
                connection.execute(statement, values, prepare=True)
            connection.commit()
            marks.append(time.perf_counter())
    return marks[-1] - marks[0], max(now - before for before, now in pairwise(marks))
