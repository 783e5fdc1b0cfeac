"""Compare the hosted bucket with the rows that name its objects, reading only.

The listing is walked key by key, and the rows are looked up for a thousand keys at once. Which rows have their object
is remembered in a bit each, so memory stays flat: ten million rows take some megabytes. Not in a temporary table: the
role that runs this would need the right to make tables and functions.
"""

import hashlib
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from itertools import islice
from typing import NamedTuple

from django.conf import settings
from django.db import connection
from django.utils import timezone

from chatbots.models import Chatbot
from common.db import fetch, fetch_one
from common.storage import ObjectStorage, OpenUpload, Version
from common.storage.listing import Listed, size_of, versions_by_key
from compliance.erasure import ledger

# What is younger may be just being written, or its row be just being changed.
SAFETY_AGE = timedelta(days=1)
_KEYS_AT_ONCE = 1_000
_LEDGER_KEY = re.compile(re.escape(ledger.PREFIX) + r"(\d{4}-\d\d-\d\d)/[0-9a-f]+\.json")


class Folder(StrEnum):
    UPLOADS = "uploads"
    EXPORTS = "chatter_data_exports"
    EXTRACTS = "daily_conversations_extracts"
    LEDGER = "erasure_ledger"
    UNKNOWN = "unknown"


class ObjectRow(NamedTuple):
    """The row that names a key. `bytes` is what its object must have, None while it is not finished."""

    store: str
    id: int
    bytes: int | None


@dataclass(frozen=True)
class Orphan:
    """Versions that no row accounts for: a whole object, or old versions of one that has a row (`is_old`)."""

    key: str
    version_ids: tuple[str, ...]
    bytes: int
    newest_at: datetime
    folder: Folder
    chatbot_id: int | None
    is_old: bool

    @property
    def versions(self) -> list[Version]:
        return [Version(self.key, version_id) for version_id in self.version_ids]

    @property
    def name(self) -> str:
        """What may be said of the key, which can bear a chatter's value: 12 hex digits of its SHA-256."""
        return hashlib.sha256(self.key.encode()).hexdigest()[:12]


class ScannedKey(NamedTuple):
    """One key of the bucket: how many versions it has, its row if there is one, what of it is nobody's."""

    folder: Folder
    versions: int
    row: ObjectRow | None
    size: int | None
    orphan: Orphan | None


class _Key(NamedTuple):
    key: str
    folder: Folder
    chatbot_id: int | None


# Of each store the rows that should have an object in the hosted bucket, and of which size.
_FINISHED = {
    "files": "SELECT id, chatbot_id, object_key AS key, size AS bytes FROM conversations_uploadedfile"
    " WHERE state = 'stored'",
    "exports": "SELECT id, chatbot_id, key, bytes FROM compliance_export"
    " WHERE hosting = 'hosted' AND key IS NOT NULL AND finished_at IS NOT NULL",
    "export_files": "SELECT f.id, f.chatbot_id, f.key, f.bytes FROM compliance_exportfile f"
    " JOIN compliance_export e ON e.id = f.export_id"
    " WHERE e.hosting = 'hosted' AND e.finished_at IS NOT NULL AND f.sha256 IS NOT NULL",
    "extracts": "SELECT id, chatbot_id, key, bytes FROM conversations_dailyextract"
    " WHERE hosting = 'hosted' AND state = 'done'",
}
STORES = tuple(_FINISHED)

# Each by its index: a chatbot has few extracts, one a day.
_ROWS = """
WITH named AS MATERIALIZED (SELECT * FROM unnest(%(keys)s::text[], %(chatbots)s::bigint[]) AS n(key, chatbot_id))
SELECT n.key, 'files', f.id, CASE WHEN f.state = 'stored' THEN f.size END
  FROM named n JOIN conversations_uploadedfile f ON f.object_key = n.key
 UNION ALL
SELECT n.key, 'exports', e.id, CASE WHEN e.finished_at IS NOT NULL THEN e.bytes END
  FROM named n JOIN compliance_export e ON e.chatbot_id = n.chatbot_id AND e.key = n.key AND e.hosting = 'hosted'
 UNION ALL
SELECT n.key, 'export_files', c.id, CASE WHEN c.sha256 IS NOT NULL THEN c.bytes END
  FROM named n JOIN compliance_exportfile c ON c.key = n.key AND c.chatbot_id = n.chatbot_id
  JOIN compliance_export e ON e.id = c.export_id AND e.hosting = 'hosted'
 UNION ALL
SELECT n.key, 'extracts', x.id, CASE WHEN x.state = 'done' THEN x.bytes END
  FROM named n JOIN conversations_dailyextract x
    ON x.chatbot_id = n.chatbot_id AND x.key = n.key AND x.hosting = 'hosted'
"""

_IN_ORDER = "SELECT r.id FROM ({finished}) AS r WHERE r.id > %s ORDER BY r.id LIMIT %s"


class SeenRows:
    """Which rows a walk has met: a bit for each number, in pages that are made when one is set."""

    _PAGE = 32_768

    def __init__(self) -> None:
        self._pages: defaultdict[tuple[str, int], bytearray] = defaultdict(lambda: bytearray(self._PAGE // 8))

    def add(self, row: ObjectRow) -> None:
        page, place = divmod(row.id, self._PAGE)
        self._pages[row.store, page][place // 8] |= 1 << place % 8

    def has(self, store: str, row_id: int) -> bool:
        page, place = divmod(row_id, self._PAGE)
        bits = self._pages.get((store, page))
        return bits is not None and bool(bits[place // 8] & 1 << place % 8)


def scan_storage(storage: ObjectStorage, seen: SeenRows) -> Iterator[ScannedKey]:
    """Yield what there is of each key in the bucket. Notes the rows it meets for `unseen`."""
    keys = versions_by_key(storage)
    chatbots = _Chatbots()
    while batch := list(islice(keys, _KEYS_AT_ONCE)):
        rows = _rows_of([chatbots.place(key) for key, _ in batch])
        for key, versions in batch:
            found = _classify(chatbots.place(key), versions, rows.get(key))
            if found.row and found.size is not None:
                seen.add(found.row)
            yield found


def unseen(store: str, seen: SeenRows) -> Iterator[int]:
    """Yield the ids of a store's finished rows whose object a walk did not meet. Look again: see `differs`."""
    statement = _IN_ORDER.format(finished=_FINISHED[store])
    last = 0
    with connection.cursor() as cursor:
        while True:
            cursor.execute(statement, [last, _KEYS_AT_ONCE])
            ids = [row_id for (row_id,) in cursor.fetchall()]
            yield from (row_id for row_id in ids if not seen.has(store, row_id))
            if len(ids) < _KEYS_AT_ONCE:
                return
            last = ids[-1]


class RowMismatch(NamedTuple):
    """A row whose object is not there (`size` is None) or of another size. `key` may bear a value: never tell it."""

    store: str
    row_id: int
    chatbot_id: int
    key: str
    size: int | None


def differs(storage: ObjectStorage, store: str, row_id: int) -> RowMismatch | None:
    """Look at one row and its object now: the walk may have passed before the object was written."""
    row = fetch_one(f"SELECT * FROM ({_FINISHED[store]}) AS r WHERE id = %s", [row_id])
    if row is None:
        return None
    _, chatbot_id, key, size = row
    actual = size_of(storage, key)
    return None if actual == size else RowMismatch(store, row_id, chatbot_id, key, actual)


def stale_uploads(storage: ObjectStorage) -> Iterator[tuple[OpenUpload, Folder, int | None]]:
    """Yield the open multipart uploads of our folders that nobody will complete.

    Those older than a day, and younger ones that no row names: the row comes before the upload, so it was erased.
    """
    uploads = storage.uploads()
    while batch := list(islice(uploads, _KEYS_AT_ONCE)):
        chatbots = _Chatbots()
        placed = [chatbots.place(upload.key) for upload in batch]
        rows = _rows_of(placed)
        for upload, place in zip(batch, placed, strict=True):
            is_old = upload.begun_at < timezone.now() - SAFETY_AGE
            if place.folder is not Folder.UNKNOWN and (is_old or upload.key not in rows):
                yield upload, place.folder, place.chatbot_id


def still_orphaned(orphans: Sequence[Orphan]) -> list[Orphan]:
    """Return those whose key no row has taken since the walk; old versions have a row anyway."""
    rows = _rows_of(_Key(orphan.key, orphan.folder, orphan.chatbot_id) for orphan in orphans)
    return [orphan for orphan in orphans if orphan.is_old or orphan.key not in rows]


def _classify(place: _Key, versions: Sequence[Listed], row: ObjectRow | None) -> ScannedKey:
    current = next((one for one in versions if one.is_latest and not one.is_marker), None)
    size = current.bytes if current else None
    nobodys: Sequence[Listed] = ()
    if place.folder is Folder.UNKNOWN:
        pass
    elif row is None and not _is_live_ledger(place):
        nobodys = versions
    elif current is not None:
        nobodys = [one for one in versions if one is not current]
    # Else a row's object lies behind a delete marker: its versions may be all there is of it, so they stay.
    if not nobodys or max(one.modified_at for one in nobodys) > timezone.now() - SAFETY_AGE:
        return ScannedKey(place.folder, len(versions), row, size, None)
    orphan = Orphan(
        key=place.key,
        version_ids=tuple(one.version_id for one in nobodys),
        bytes=sum(one.bytes for one in nobodys),
        newest_at=max(one.modified_at for one in nobodys),
        folder=place.folder,
        chatbot_id=place.chatbot_id,
        is_old=len(nobodys) < len(versions),
    )
    return ScannedKey(place.folder, len(versions), row, size, orphan)


def _is_live_ledger(place: _Key) -> bool:
    """The ledger has no rows: its objects are known by the day in their key."""
    match = _LEDGER_KEY.fullmatch(place.key)
    if match is None:
        return False
    last_kept = datetime.now(UTC) - settings.ERASURE_LEDGER_DAYS - SAFETY_AGE
    return match[1] >= f"{last_kept:%Y-%m-%d}"


class _Chatbots:
    """Tells whose folder a key lies in."""

    def __init__(self) -> None:
        self._ids = dict(Chatbot.objects.values_list("slug", "pk"))
        self._known = set(self._ids.values())

    def place(self, key: str) -> _Key:
        first, _, rest = key.partition("/")
        second = rest.partition("/")[0]
        if "\0" in key:
            return _Key(key, Folder.UNKNOWN, None)
        if first == Folder.UPLOADS:
            chatbot_id = int(second) if second.isascii() and second.isdecimal() else None
            return _Key(key, Folder.UPLOADS, chatbot_id if chatbot_id in self._known else None)
        if first == Folder.LEDGER:
            return _Key(key, Folder.LEDGER, None)
        if first in self._ids and second in {Folder.EXPORTS, Folder.EXTRACTS}:
            return _Key(key, Folder(second), self._ids[first])
        return _Key(key, Folder.UNKNOWN, None)


def _rows_of(placed: Iterable[_Key]) -> dict[str, ObjectRow]:
    asked = [place for place in placed if place.folder not in {Folder.UNKNOWN, Folder.LEDGER}]
    if not asked:
        return {}
    keys, chatbots = [place.key for place in asked], [place.chatbot_id for place in asked]
    return {
        key: ObjectRow(store, row_id, size)
        for key, store, row_id, size in fetch(_ROWS, {"keys": keys, "chatbots": chatbots})
    }
