"""The advisory lock between intake and erasure, one per chatbot, in four parts.

Intakes share all parts. An erasure that marks holds one part exclusively. So an intake and a mark exclude each other,
while intakes do not wait for intakes, nor marks for marks of another part.

Locks last until the caller's transaction ends. Take them in a statement before the one that reads the protected rows:
at READ COMMITTED, each statement sees rows that were committed when it began. Call once in a transaction, before
locking any row of a conversation or an export.

A worker with several chatbots tries their locks without waiting. It waits for a refused lock in a transaction of its
own: waiting for one while holding others would let a slow chatbot delay its neighbours.
"""

from collections.abc import Collection, Iterable

from django.db import OperationalError

from common.db import array, execute, fetch

PARTS = 4
# The first half of the two-part key is this and the part; the second is the chatbot's id (both are 4-byte integers
# to PostgreSQL).
LOCK_SPACE = 0x0C0A7B00

# The longest wait of a mark for running intakes. New ones wait behind it.
_LOCK_TIMEOUT = "2s"
_LOCK_NOT_AVAILABLE = "55P03"


class Busy(Exception):
    """A running intake did not end in time. The transaction can only be rolled back."""


def share_with_intake(chatbot_id: int) -> None:
    """Share the chatbot's lock with other intakes; wait while an erasure marks."""
    _lock("pg_advisory_xact_lock_shared", [chatbot_id], range(PARTS))


def try_to_share(chatbot_ids: Collection[int]) -> set[int]:
    """As `share_with_intake` for several chatbots, without waiting; return those whose locks it got."""
    return _free(_lock("pg_try_advisory_xact_lock_shared", chatbot_ids, range(PARTS)), chatbot_ids)


def exclude_intake(chatbot_id: int, *, number: int | None) -> None:
    """Wait for the chatbot's running intakes, and keep new ones out. Keep the transaction short.

    `number` selects the part. Callers with successive numbers, such as a claim's id, seldom meet. None selects all
    parts, which also excludes marks. Raises Busy.
    """
    execute("SELECT set_config('lock_timeout', %s, TRUE)", [_LOCK_TIMEOUT])
    is_busy = False
    try:
        _lock("pg_advisory_xact_lock", [chatbot_id], range(PARTS) if number is None else [number % PARTS])
    except OperationalError as error:
        if not is_lock_unavailable(error):
            raise
        is_busy = True
    if is_busy:
        raise Busy
    execute("SELECT set_config('lock_timeout', '0', TRUE)")


def is_lock_unavailable(error: OperationalError) -> bool:
    """Return whether a lock was not available, at once or in time."""
    return getattr(error.__cause__, "sqlstate", None) == _LOCK_NOT_AVAILABLE


def try_to_exclude_intake(chatbot_ids: Collection[int], *, number: int) -> set[int]:
    """As `exclude_intake` for several chatbots, without waiting; return those whose locks it got."""
    return _free(_lock("pg_try_advisory_xact_lock", chatbot_ids, [number % PARTS]), chatbot_ids)


def wait_for_intake(chatbot_id: int) -> None:
    """Wait for the chatbot's running intakes and marks, and keep new ones out until all have ended.

    Every later intake and mark sees the rows that were committed before the call. Call it in a transaction of its
    own, and end that at once.
    """
    _lock("pg_advisory_xact_lock", [chatbot_id], range(PARTS))


def _lock(function: str, chatbot_ids: Iterable[int], parts: Iterable[int]) -> list[tuple[int, object]]:
    """Lock the parts, in one order for all callers; return the function's result for each, with its chatbot."""
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
