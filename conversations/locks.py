"""The advisory lock between intake and erasure, one per chatbot, in four parts.

Intakes share all parts; an erasure that marks holds one part alone. So an intake and a mark exclude each other,
while intakes do not wait for intakes, nor marks for marks of another part.

All hold until the caller's transaction ends. They must run in a statement before the one that reads what they
protect: at READ COMMITTED each statement sees what was committed when it began. Call once in a transaction, before
locking any row of a conversation or an export.

Whoever works for several chatbots at once tries their locks, and takes one that was refused in a transaction of its
own: who waited for one while holding others would let a slow chatbot hold up its neighbours.
"""

from collections.abc import Collection, Iterable

from django.db import OperationalError

from common.db import array, execute, fetch

PARTS = 4
# The first half of the two-part key is this and the part; the second is the chatbot's id (both are 4-byte integers
# to PostgreSQL).
LOCK_SPACE = 0x0C0A7B00

# How long a mark waits for intakes that are under way. New ones wait behind it.
_PATIENCE = "2s"
_LOCK_NOT_AVAILABLE = "55P03"


class Busy(Exception):
    """An intake that is under way did not end in time. The transaction can only be rolled back."""


def share_with_intake(chatbot_id: int) -> None:
    """Hold the lock of this chatbot together with other intakes; wait while an erasure marks."""
    _lock("pg_advisory_xact_lock_shared", [chatbot_id], range(PARTS))


def try_to_share(chatbot_ids: Collection[int]) -> set[int]:
    """As `share_with_intake`, of several chatbots and without waiting; return those that it could be done for."""
    return _free(_lock("pg_try_advisory_xact_lock_shared", chatbot_ids, range(PARTS)), chatbot_ids)


def exclude_intake(chatbot_id: int, *, number: int) -> None:
    """Wait for the intakes of this chatbot that are under way, and keep new ones out. Keep the transaction short.

    `number` chooses the part. Whoever counts up (a claim's id does) seldom meets another. Raises Busy.
    """
    execute("SELECT set_config('lock_timeout', %s, TRUE)", [_PATIENCE])
    is_busy = False
    try:
        _lock("pg_advisory_xact_lock", [chatbot_id], [number % PARTS])
    except OperationalError as error:
        if getattr(error.__cause__, "sqlstate", None) != _LOCK_NOT_AVAILABLE:
            raise
        is_busy = True
    if is_busy:
        raise Busy
    execute("SELECT set_config('lock_timeout', '0', TRUE)")


def try_to_exclude_intake(chatbot_ids: Collection[int], *, number: int) -> set[int]:
    """As `exclude_intake`, of several chatbots and without waiting; return those that it could be done for."""
    return _free(_lock("pg_try_advisory_xact_lock", chatbot_ids, [number % PARTS]), chatbot_ids)


def await_under_way(chatbot_id: int) -> None:
    """Wait for the intakes and the marks of this chatbot that are under way; begin none before all have ended.

    What was committed before the call is seen by every intake and every mark after it. In a transaction of its own,
    to be ended at once.
    """
    _lock("pg_advisory_xact_lock", [chatbot_id], range(PARTS))


def _lock(function: str, chatbot_ids: Iterable[int], parts: Iterable[int]) -> list[tuple[int, object]]:
    """Take the parts in one order, chatbot by chatbot; return each chatbot with what the function says of a part."""
    wanted = [(LOCK_SPACE + part, chatbot_id) for chatbot_id in sorted(set(chatbot_ids)) for part in parts]
    return list(
        fetch(
            f"SELECT chatbot_id, {function}(part, chatbot_id)"  # noqa: S608  (a name of ours)
            " FROM unnest(%s::int[], %s::int[]) AS wanted(part, chatbot_id)",
            [array(part for part, _ in wanted), array(chatbot_id for _, chatbot_id in wanted)],
        )
    )


def _free(answers: Iterable[tuple[int, object]], chatbot_ids: Collection[int]) -> set[int]:
    return set(chatbot_ids) - {chatbot_id for chatbot_id, is_held in answers if not is_held}
