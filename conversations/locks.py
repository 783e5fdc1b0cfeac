"""The advisory lock between intake and erasure, one per chatbot, in four parts.

Intakes share all parts; an erasure that marks holds one part alone. So an intake and a mark exclude each other,
while intakes do not wait for intakes, nor marks for marks of another part.

All functions wait, and hold until the caller's transaction ends. They must run in a statement before the one
that reads what they protect: at READ COMMITTED each statement sees what was committed when it began. Whoever calls
takes the parts in one order, chatbot by chatbot, so that two callers cannot block each other: call once in a
transaction, before locking any row of a conversation or an export.
"""

from collections.abc import Iterable

from django.db import connection

from config.arrays import array

PARTS = 4
# The first half of the two-part key is this and the part; the second is the chatbot's id (both are 4-byte integers
# to PostgreSQL).
LOCK_SPACE = 0x0C0A7B00


def share_with_intake(chatbot_ids: Iterable[int]) -> None:
    """Hold the locks of these chatbots together with other intakes; wait while an erasure marks."""
    _lock("pg_advisory_xact_lock_shared", chatbot_ids, range(PARTS))


def exclude_intake(chatbot_ids: Iterable[int], *, number: int) -> None:
    """Wait for the intakes of these chatbots that are under way, and keep new ones out. Keep the transaction short.

    `number` chooses the part. Whoever counts up (a claim's id does) seldom meets another.
    """
    _lock("pg_advisory_xact_lock", chatbot_ids, [number % PARTS])


def await_under_way(chatbot_id: int) -> None:
    """Wait for the intakes and the marks of this chatbot that are under way; begin none before all have ended.

    What was committed before the call is seen by every intake and every mark after it. In a transaction of its own,
    to be ended at once.
    """
    _lock("pg_advisory_xact_lock", [chatbot_id], range(PARTS))


def _lock(function: str, chatbot_ids: Iterable[int], parts: Iterable[int]) -> None:
    wanted = [(LOCK_SPACE + part, chatbot_id) for chatbot_id in sorted(set(chatbot_ids)) for part in parts]
    with connection.cursor() as cursor:
        cursor.execute(
            f"SELECT {function}(part, chatbot_id)"  # noqa: S608  (a name of ours)
            " FROM unnest(%s::int[], %s::int[]) AS wanted(part, chatbot_id)",
            [array(part for part, _ in wanted), array(chatbot_id for _, chatbot_id in wanted)],
        )
