"""The advisory lock between intake and erasure, one per chatbot.

All functions wait, and hold until the caller's transaction ends. They must run in a statement before the one
that reads what they protect: at READ COMMITTED each statement sees what was committed when it began.
"""

from collections.abc import Iterable

from django.db import connection

# The first half of the two-part key; the second is the chatbot's id (both are 4-byte integers to PostgreSQL).
LOCK_SPACE = 0x0C0A7B07


def share_with_intake(chatbot_id: int) -> None:
    """Hold the chatbot's lock together with other intakes; wait while an erasure marks."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock_shared(%s::int, %s::int)", [LOCK_SPACE, chatbot_id])


def share_with_intakes(chatbot_ids: Iterable[int]) -> None:
    """Hold the locks of these chatbots together with other intakes, taken in the order of the ids.

    Call it before locking any row, as with `exclude_intake`.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_advisory_xact_lock_shared(%s::int, chatbot_id) FROM unnest(%s::int[]) AS wanted(chatbot_id)",
            [LOCK_SPACE, sorted(set(chatbot_ids))],
        )


def exclude_intake(chatbot_ids: Iterable[int]) -> None:
    """Hold the locks of these chatbots alone: wait for the intakes under way, keep new ones out.

    Taken in the order of the ids, whatever the order given, so that two callers cannot block each other. Call
    it before locking any row, and keep the transaction short.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_advisory_xact_lock(%s::int, chatbot_id) FROM unnest(%s::int[]) AS wanted(chatbot_id)",
            [LOCK_SPACE, sorted(set(chatbot_ids))],
        )
