"""Scan the hosted bucket and the rows of its objects, without changing anything.

The listing is read key by key, and rows are looked up for a thousand keys at once. A bit per row records whether its
object was seen, so ten million rows take some megabytes. (A temporary table would need the right to create tables.)
"""

import hashlib
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from itertools import islice
from typing import NamedTuple

from django.utils import timezone

from chatbots.buckets.probe import WORKERS_KEY, is_check
from chatbots.models import Chatbot
from common.db import fetch, fetch_one
from common.storage import ObjectStorage, OpenUpload, Version
from common.storage.listing import Listed
from compliance.ledger import objects as ledger

# Younger objects may be being written, or their rows being changed.
SAFETY_AGE = timedelta(days=1)
_KEYS_AT_ONCE = 1_000
# By service and day; releases before 0.2 wrote by day alone.
_LEDGER_KEY = re.compile(
    re.escape(ledger.PREFIX) + r"([0-9a-f-]{36})/(\d{4})/(\d\d)/(\d\d)/\d{6}-[0-9a-f-]{36}\.jsonl"
)
_OLD_LEDGER_KEY = re.compile(re.escape(ledger.PREFIX) + r"()(\d{4})-(\d\d)-(\d\d)/[0-9a-f]+\.json")


class Folder(StrEnum):
    UPLOADS = "uploads"
    EXPORTS = "chatter_data_exports"
    EXTRACTS = "daily_conversations_extracts"
    LEDGER = "erasure_ledger"
    CHECKS = WORKERS_KEY  # wherever they are; they never have rows
    UNKNOWN = "unknown"

    @property
    def has_data(self) -> bool:
        return self not in {Folder.CHECKS, Folder.UNKNOWN}


class ObjectRow(NamedTuple):
    """The row with a key. `bytes` is the size that its object must have, None while unfinished."""

    store: str
    id: int
    bytes: int | None


@dataclass(frozen=True)
class Orphan:
    """Versions without a row: a whole object, or old versions of one that has a row (`is_old`)."""

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
        """12 hex digits of the key's SHA-256, since the key can contain a chatter's value."""
        return hashlib.sha256(self.key.encode()).hexdigest()[:12]


class ScannedKey(NamedTuple):
    """One key of the bucket: its number of versions, its row, the size of its object, and its orphaned versions.

    `without_row_since`: when it was written, if it is data of ours without a row, however young. `other_service`: the
    id of the service whose ledger it belongs to, if that is not ours.
    """

    folder: Folder
    versions: int
    row: ObjectRow | None
    size: int | None
    orphan: Orphan | None
    without_row_since: datetime | None
    other_service: str | None


class _Key(NamedTuple):
    key: str
    folder: Folder
    chatbot_id: int | None
    other_service: str | None = None


# The rows of each store with an object in the hosted bucket. A finished one has an object of its size.
_STORES = {
    "files": "SELECT id, chatbot_id, object_key AS key, size AS bytes, state = 'stored' AS is_finished"
    " FROM conversations_uploadedfile",
    "exports": "SELECT id, chatbot_id, key, bytes, finished_at IS NOT NULL AS is_finished"
    " FROM compliance_export WHERE hosting = 'hosted' AND key IS NOT NULL",
    "export_files": "SELECT f.id, f.chatbot_id, f.key, f.bytes,"
    " e.finished_at IS NOT NULL AND f.sha256 IS NOT NULL AS is_finished"
    " FROM compliance_exportfile f JOIN compliance_export e ON e.id = f.export_id WHERE e.hosting = 'hosted'",
    "extracts": "SELECT id, chatbot_id, key, bytes, state = 'done' AS is_finished"
    " FROM conversations_dailyextract WHERE hosting = 'hosted'",
}
STORES = tuple(_STORES)

# By the indexes: that of files has only the key, the others begin with the chatbot.
_BY_KEY = "WITH named AS MATERIALIZED (SELECT * FROM unnest(%s::text[], %s::bigint[]) AS n(key, chatbot_id))" + (
    " UNION ALL".join(
        f" SELECT n.key, '{store}', r.id, CASE WHEN r.is_finished THEN r.bytes END"
        f" FROM named n JOIN ({rows}) AS r ON r.key = n.key"
        + ("" if store == "files" else " AND r.chatbot_id = n.chatbot_id")
        for store, rows in _STORES.items()
    )
)


class SeenRows:
    """Which rows a scan has seen: a bit per id, in pages that are created as needed."""

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
    """Yield each key of the bucket, and record the rows it sees for `unseen`."""
    keys = storage.versions_by_key()
    chatbots = _Chatbots()
    while batch := list(islice(keys, _KEYS_AT_ONCE)):
        rows = _rows_of([chatbots.place(key) for key, _ in batch])
        for key, versions in batch:
            found = _classify(chatbots.place(key), versions, rows.get(key))
            if found.row and found.size is not None:
                seen.add(found.row)
            yield found


def unseen(store: str, seen: SeenRows) -> Iterator[int]:
    """Yield the ids of finished rows whose object a scan did not see. Check each with `differs`."""
    statement = f"SELECT id FROM ({_STORES[store]}) AS r WHERE is_finished AND id > %s ORDER BY id LIMIT %s"
    last = 0
    while ids := [row_id for (row_id,) in fetch(statement, [last, _KEYS_AT_ONCE])]:
        yield from (row_id for row_id in ids if not seen.has(store, row_id))
        last = ids[-1]


class RowMismatch(NamedTuple):
    """A row whose object is missing (`size` is None) or of another size. `key` can contain a value: never log it."""

    store: str
    row_id: int
    chatbot_id: int
    key: str
    size: int | None


def differs(storage: ObjectStorage, store: str, row_id: int) -> RowMismatch | None:
    """Compare a row and its object now: the scan may have passed before the object was written."""
    row = fetch_one(
        f"SELECT chatbot_id, key, bytes FROM ({_STORES[store]}) AS r WHERE is_finished AND id = %s", [row_id]
    )
    if row is None:
        return None
    chatbot_id, key, size = row
    actual = storage.size_of(key)
    return None if actual == size else RowMismatch(store, row_id, chatbot_id, key, actual)


def stale_uploads(storage: ObjectStorage) -> Iterator[tuple[OpenUpload, Folder, int | None]]:
    """Yield open multipart uploads of our folders that no worker will complete.

    Those older than a day, and younger ones without a row: the row is older than the upload, so it was erased. Those
    of checks have none.
    """
    uploads = storage.uploads()
    while batch := list(islice(uploads, _KEYS_AT_ONCE)):
        chatbots = _Chatbots()
        placed = [chatbots.place(upload.key) for upload in batch]
        rows = _rows_of(placed)
        for upload, place in zip(batch, placed, strict=True):
            is_old = upload.begun_at < timezone.now() - SAFETY_AGE
            if place.folder is not Folder.UNKNOWN and (is_old or (place.folder.has_data and upload.key not in rows)):
                yield upload, place.folder, place.chatbot_id


def still_orphaned(orphans: Sequence[Orphan]) -> list[Orphan]:
    """Return those whose key no row has taken since the scan; old versions have a row anyway."""
    rows = _rows_of(_Key(orphan.key, orphan.folder, orphan.chatbot_id) for orphan in orphans)
    return [orphan for orphan in orphans if orphan.is_old or orphan.key not in rows]


def _classify(place: _Key, versions: Sequence[Listed], row: ObjectRow | None) -> ScannedKey:
    current = next((one for one in versions if one.is_latest and not one.is_marker), None)
    size = current.bytes if current else None
    orphaned: Sequence[Listed] = ()
    if place.folder is Folder.UNKNOWN:
        pass
    elif row is None and not _is_live_ledger(place):
        orphaned = versions
    elif current is not None:
        orphaned = [one for one in versions if one is not current]
    # Otherwise a row's object is behind a delete marker: its versions may be all that is left of it, so they stay.
    newest_at = max((one.modified_at for one in orphaned), default=None)
    scanned = ScannedKey(
        folder=place.folder,
        versions=len(versions),
        row=row,
        size=size,
        orphan=None,
        without_row_since=newest_at if place.folder.has_data and current and len(orphaned) == len(versions) else None,
        other_service=place.other_service,
    )
    if newest_at is None or newest_at > timezone.now() - SAFETY_AGE:
        return scanned
    orphan = Orphan(
        key=place.key,
        version_ids=tuple(one.version_id for one in orphaned),
        bytes=sum(one.bytes for one in orphaned),
        newest_at=newest_at,
        folder=place.folder,
        chatbot_id=place.chatbot_id,
        is_old=len(orphaned) < len(versions),
    )
    return scanned._replace(orphan=orphan)


def _is_live_ledger(place: _Key) -> bool:
    """Return whether a ledger object is live, by the day in its key."""
    match = _LEDGER_KEY.fullmatch(place.key) or _OLD_LEDGER_KEY.fullmatch(place.key)
    return match is not None and "-".join(match.groups()[1:]) >= f"{ledger.expiry_cutoff() - SAFETY_AGE:%Y-%m-%d}"


class _Chatbots:
    def __init__(self) -> None:
        self._ledger = ledger.folder()
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
            # Another service may keep its ledger in this bucket: a copy of this one, or the one that it is a copy of.
            match = _LEDGER_KEY.fullmatch(key)
            if match and not key.startswith(self._ledger):
                return _Key(key, Folder.UNKNOWN, None, other_service=match[1])
            return _Key(key, Folder.LEDGER, None)
        if first in self._ids and second in {Folder.EXPORTS, Folder.EXTRACTS}:
            return _Key(key, Folder(second), self._ids[first])
        return _Key(key, Folder.CHECKS if is_check(key) else Folder.UNKNOWN, None)


def _rows_of(placed: Iterable[_Key]) -> dict[str, ObjectRow]:
    asked = [place for place in placed if place.folder.has_data and place.folder is not Folder.LEDGER]
    if not asked:
        return {}
    found = fetch(_BY_KEY, [[place.key for place in asked], [place.chatbot_id for place in asked]])
    return {key: ObjectRow(store, row_id, size) for key, store, row_id, size in found}
