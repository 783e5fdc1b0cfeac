"""The change log. Its data has a closed vocabulary, so that no field can hold personal data.

A reader who goes on after the last id misses nothing. An id is drawn before its entry is committed, so an entry can
appear after others with higher ids. A trigger has each transaction hold a lock from before it draws its first id,
with the newest id of that time in the lock's key (`migrations/0002_raw_sql.py`). `settled` reads these keys.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple, cast
from uuid import UUID

from django.db import transaction
from django.db.models import QuerySet
from django.db.models.functions import Now

from chatbots import locks
from chatbots.models import ChangeLogEntry, Chatbot
from common.db import execute, fetch

Data = Mapping[str, str | int | bool | None]

# Event -> allowed keys of its data. Values are codes, counts, ids and names of settings, never content.
VOCABULARY: dict[str, frozenset[str]] = {
    "chatbot.created": frozenset(),
    "chatbot.changed": frozenset({"setting", "value"}),
    "membership.set": frozenset({"user", "role"}),
    "membership.removed": frozenset({"user"}),
    "membership.mails_set": frozenset({"user", "wanted"}),
    "variable.created": frozenset({"variable", "category"}),
    "variable.designated_uci": frozenset({"variable"}),
    # Written by a replay: a restore had lost the variable, or its designation as the UCI.
    "variable.declared_again": frozenset({"variable", "category"}),
    "bucket.set": frozenset({"hosting", "access", "sse", "changed"}),
    "bucket_credential.issued": frozenset({"credential", "key", "origin"}),
    "bucket_credential.not_issued": frozenset({"credential", "key", "code"}),
    "bucket_credential.revoked": frozenset({"credential", "key", "origin"}),
    "extract.ordered": frozenset({"day"}),
    "apikey.created": frozenset({"prefix", "type"}),
    "apikey.changed": frozenset({"prefix", "rate_limit"}),
    "apikey.revoked": frozenset({"prefix"}),
    "callback_secret.created": frozenset({"overlap_hours"}),
    "resolver.set": frozenset({"variables", "session_token"}),
    "resolver.removed": frozenset(),
    "resolver.stopped": frozenset({"reason"}),
    "resolver.tried": frozenset(),
    "resolver.trial_ended": frozenset({"outcome"}),
    # A look-up in the console: its kind, and the number of conversations shown. The text is left out: it identifies a
    # person.
    "conversations.looked_up": frozenset({"by", "shown"}),
    "conversation.opened": frozenset({"conversation"}),
    "file.downloaded": frozenset({"file", "conversation"}),
    "export.downloaded": frozenset({"file"}),
    "storage.reconciled": frozenset({"orphans", "old_versions", "uploads", "exports", "extracts"}),
    "request.accepted": frozenset({"kind", "origin", "reason", "csat_comment"}),
    "request.reused": frozenset({"origin", "times"}),
    "request.held": frozenset({"reason"}),
    "request.released": frozenset({"reason"}),
    # The subject of a request was shown to a user who decides on it.
    "request.shown": frozenset(),
    "request.approved": frozenset({"reason"}),
    "request.rejected": frozenset({"reason"}),
    "request.cancelled": frozenset({"reason"}),
    # The console's time to cancel it was ended.
    "request.started_early": frozenset(),
    # The deadline was extended. The person got a letter, though the request is held or rejected.
    "request.extended": frozenset({"reason"}),
    "request.answered": frozenset({"letter"}),
    "request.started": frozenset({"conversations"}),
    "request.requeued": frozenset({"code", "attempts"}),
    "request.failed": frozenset({"code", "attempts"}),
    "request.retried": frozenset({"reason"}),
    "request.completed": frozenset(
        {"result", "conversations", "messages", "files", "exports", "unverified_left_out", "csat_comments"}
    ),
    "callback.given_up": frozenset({"callback", "event", "code", "attempts"}),
    "callback.resent": frozenset({"callback", "event"}),
    "callback.tested": frozenset(),
    "callback.test_ended": frozenset({"outcome"}),
    # Written by a replay of the erasure ledger: carried out again, with the number of conversations to erase.
    "request.replayed": frozenset({"line", "conversations"}),
    # An operator leaves a request unchanged that a replay could not carry out.
    "request.left": frozenset(),
    "request.late_data_erased": frozenset({"conversations", "messages", "files"}),
    # An officer lets a deletion erase what no legal hold covers.
    "request.limited": frozenset({"reason"}),
    # Legal holds. The matter and the subject are left out: they can identify a person.
    "hold.placed": frozenset({"hold", "scope", "basis"}),
    "hold.reviewed": frozenset({"hold", "review_at"}),
    # The value of a hold in force was shown to an officer.
    "hold.shown": frozenset({"hold"}),
    "hold.released": frozenset({"hold", "reason"}),
}


class Entry(NamedTuple):
    """An entry to append. The database sets `at`."""

    chatbot_id: int
    request_id: UUID | None
    event: str
    actor: str
    data: Data


# One statement for any number of entries, without an ORM object for each.
_APPEND = """
INSERT INTO chatbots_changelogentry (chatbot_id, request_id, event, actor, data)
SELECT chatbot_id, request_id, event, actor, data
  FROM jsonb_to_recordset(%s::jsonb)
       AS entry(chatbot_id bigint, request_id uuid, event text, actor text, data jsonb)
"""


def entry(
    event: str, *, chatbot_id: int, actor: str, request_id: UUID | None = None, data: Data | None = None
) -> Entry:
    """Build an entry for `record_all`. Raises ValueError for an unknown event or key."""
    data = data or {}
    if event not in VOCABULARY or not data.keys() <= VOCABULARY[event]:
        raise ValueError(f"The change log has no event {event!r} with {sorted(data)}: declare it in VOCABULARY.")
    return Entry(chatbot_id, request_id, event, actor, dict(data))


def record(
    event: str, *, chatbot_id: int, actor: str, request_id: UUID | None = None, data: Data | None = None
) -> int:
    """Append one entry, in the caller's transaction, and return its id."""
    appended = entry(event, chatbot_id=chatbot_id, request_id=request_id, actor=actor, data=data)
    [(entry_id,)] = fetch(f"{_APPEND} RETURNING id", [_as_json([appended])])
    return cast("int", entry_id)


def record_all(entries: Iterable[Entry]) -> None:
    """Append many entries in one statement, in the caller's transaction."""
    if appended := list(entries):
        execute(_APPEND, [_as_json(appended)])


def record_if_few(event: str, *, chatbot: Chatbot, actor: str, most: int, period: timedelta) -> bool:
    """Append an entry, or return False if the period already has `most` of this event."""
    with transaction.atomic():
        # One at a time, or several at once would each find room.
        locks.lock(chatbot.pk)
        recorded = ChangeLogEntry.objects.filter(chatbot=chatbot, event=event, at__gt=Now() - period)
        if recorded.count() >= most:
            return False
        record(event, chatbot_id=chatbot.pk, actor=actor)
        return True


def _as_json(entries: Sequence[Entry]) -> str:
    return json.dumps([each._asdict() | {"request_id": each.request_id and each.request_id.hex} for each in entries])


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


def read(
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
