"""The lock of a chatbot, for code that changes its settings, or whose decision no change of them may overlap.

It is an advisory lock. If the conversation tables are distributed, chatbots are a reference table, and Citus would
lock the whole table in place of one row, with the help of a machine that may be silent (docs/explanation/citus.md).

Locks last until the caller's transaction ends. Take one before any lock of a row.
"""

from chatbots.models import Chatbot
from common.db import array, fetch

# The first half of the two-part key; the second is the chatbot's id. Not one of `conversations.locks`.
_LOCK_SPACE = 0x0C0A7B10


def lock(*chatbot_ids: int) -> None:
    """Lock chatbots, in one order for all callers."""
    fetch(
        "SELECT pg_advisory_xact_lock(%s, chatbot_id) FROM unnest(%s::int[]) AS wanted(chatbot_id)",
        [_LOCK_SPACE, array(sorted(set(chatbot_ids)))],
    )


def locked(chatbot_id: int) -> Chatbot:
    """Lock a chatbot, and return it as it is then. Raises Chatbot.DoesNotExist."""
    lock(chatbot_id)
    return Chatbot.objects.get(pk=chatbot_id)
