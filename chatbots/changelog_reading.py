"""Reads a chatbot's change log in the order of its ids. A reader who goes on after the last id misses nothing.

An id is drawn before its entry is committed, so an entry can appear after others with higher ids. A trigger has each
transaction hold a lock from before it draws its first id, with the newest id of that time in the lock's key
(`migrations/0004_changelog_read.py`). `settled` reads these keys.
"""

from datetime import datetime, timedelta
from uuid import UUID

from django.db.models import QuerySet

from chatbots.models import ChangeLogEntry, Chatbot
from common.db import fetch

_NEWEST = "SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM chatbots_changelogentry_id_seq"
_LOWEST_HELD = """
SELECT min(((classid::bigint & 65535) << 32) | objid::bigint) FROM pg_locks
 WHERE locktype = 'advisory' AND objsubid = 1 AND classid::bigint >> 16 = 25699
   AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""
# `at` is when the statement of an entry began, which draws the id later. No statement takes as long.
_LONGEST_STATEMENT = timedelta(hours=1)


def settled() -> int:
    """Return an id up to which no entry appears any more. Call it in a statement before the one that reads entries.

    It can be lower than in an earlier call.
    """
    # In this order: a transaction that is missed by the second statement draws its ids after the first.
    [(newest,)] = fetch(_NEWEST)
    [(held,)] = fetch(_LOWEST_HELD)
    return int(newest if held is None else min(newest, held))


def entries(
    chatbot: Chatbot,
    *,
    upto: int,
    since: datetime | None = None,
    until: datetime | None = None,
    event: str | None = None,
    request_id: UUID | None = None,
) -> QuerySet[ChangeLogEntry]:
    """Return the entries up to an id, from `since` to before `until`; an index finds them by id."""
    found = ChangeLogEntry.objects.filter(chatbot=chatbot, id__lte=upto)
    if since is not None:
        found = found.filter(at__gte=since, id__gt=_last_before(chatbot, since - _LONGEST_STATEMENT, upto))
    if until is not None:
        found = found.filter(at__lt=until, id__lte=_last_before(chatbot, until + _LONGEST_STATEMENT, upto))
    if event is not None:
        found = found.filter(event=event)
    if request_id is not None:
        found = found.filter(request_id=request_id)
    return found


def _last_before(chatbot: Chatbot, instant: datetime, upto: int) -> int:
    """Return the id of the last entry before an instant, by bisection: there is no index on the time."""
    low, high = 0, upto
    following = ChangeLogEntry.objects.filter(chatbot=chatbot).order_by("id").values_list("id", "at")
    while low < high:
        middle = (low + high) // 2
        number, at = following.filter(id__gt=middle, id__lte=upto).first() or (upto, instant)
        low, high = (number, high) if at < instant else (low, middle)
    return low
