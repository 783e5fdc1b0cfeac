"""Write an object of the ledger: its row is committed first, then the object, then the time in the row.

So the database has a row for each object that it has written, whenever a worker is killed: an object without a row
was written by a life of the database that was lost.
"""

from collections.abc import Collection, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from itertools import takewhile
from typing import NamedTuple
from uuid import UUID

from django.conf import settings
from django.db.models.functions import Now
from django.utils import timezone
from uuid_utils.compat import uuid7

from chatbots.buckets import hosted_storage
from common.db import array, fetch
from common.storage import StorageError, errors
from compliance.errors import StepFailed
from compliance.ledger import content, service
from compliance.ledger.content import Fault, Header, InvalidLedgerObject, LedgerContent, Line
from compliance.models import LedgerObject

PREFIX = "erasure_ledger/"
CONTENT_TYPE = "application/x-ndjson"

# An object has at most about this size. No larger one is read: it was not written here.
_LINES_BYTES = 4 * 1024 * 1024
_MOST_BYTES = 2 * _LINES_BYTES

# The row has to survive a crash of the database after the object was written, also without synchronous commits. The
# time in a key is never before that of an earlier object, so that their order is that of writing whatever the clock
# does.
_BEGIN = """
INSERT INTO compliance_ledgerobject (key, at, request_ids, key_prefixes)
SELECT %(prefix)s || s.service_id || '/' || to_char(made.at AT TIME ZONE 'UTC', 'YYYY/MM/DD/HH24MISS')
       || '-' || %(name)s || '.jsonl', made.at, %(request_ids)s::uuid[], %(key_prefixes)s::varchar[]
  FROM compliance_service s
 CROSS JOIN (SELECT greatest(clock_timestamp(), (SELECT max(at) FROM compliance_ledgerobject)) AS at) AS made
RETURNING id, key, at, (SELECT service_id FROM compliance_service), (SELECT incarnation FROM compliance_service),
       CASE current_setting('synchronous_commit') WHEN 'off' THEN set_config('synchronous_commit', 'local', TRUE) END
"""


class Written(NamedTuple):
    """Objects that the storage has accepted, by their rows' numbers, with the SHA-256 of each.

    `confirm` records that, in the transaction that relies on them.
    """

    digests: dict[int, bytes]

    def confirm(self) -> None:
        for row_id, digest in self.digests.items():
            LedgerObject.objects.filter(pk=row_id).update(written_at=Now(), sha256=digest)


def write(lines: Sequence[Line], *, request_ids: Collection[UUID], key_prefixes: Collection[str] = ()) -> Written:
    """Write these lines. Raises StepFailed when the storage refuses, or does not answer twice.

    If they are rewritten, after a kill or without an answer, they are in a second object, which does no harm.
    """
    digests: dict[int, bytes] = {}
    try:
        for part in parts(lines):
            # Each attempt has its own key: the same key twice would be two versions in a bucket with versioning.
            try:
                digests |= put(*_begin(request_ids, key_prefixes), part).digests
            except StorageError as error:
                if error.code != errors.UNAVAILABLE:
                    raise
                digests |= put(*_begin(request_ids, key_prefixes), part).digests
    except StorageError as error:
        raise StepFailed.of(error) from None
    return Written(digests)


def put(row_id: int, header: Header, lines: Sequence[Line]) -> Written:
    """Write an object that has a row. Raises StorageError."""
    sealed = content.seal(header, lines)
    hosted_storage().put(header.key, sealed, content_type=CONTENT_TYPE)
    return Written({row_id: sha256(sealed).digest()})


def header(key: str, at: datetime) -> Header:
    """Return the header of an object that this life of the database writes."""
    ours = service.current()
    return Header(key, ours.service_id, ours.incarnation, at.astimezone(UTC))


def _begin(request_ids: Collection[UUID], key_prefixes: Collection[str]) -> tuple[int, Header]:
    # UUIDv7: in the order of writing within a second, too.
    values = {
        "prefix": PREFIX,
        "name": str(uuid7()),
        "request_ids": array(request_ids),
        "key_prefixes": list(key_prefixes),
    }
    rows = fetch(_BEGIN, values)
    if not rows:
        service.current()
        rows = fetch(_BEGIN, values)
    [(row_id, key, at, service_id, incarnation, _)] = rows
    return row_id, Header(key, service_id, incarnation, at.astimezone(UTC))


def parts(lines: Sequence[Line]) -> Iterator[Sequence[Line]]:
    """Yield the lines in parts of the size of an object."""
    part: list[Line] = []
    size = 0
    for line in lines:
        part.append(line)
        # A digest in hex and JSON's characters around it; the rest is some hundred bytes.
        size += 512 + sum(67 * len(line.get(name) or ()) for name in ("conversations", "messages", "named"))
        if size >= _LINES_BYTES:
            yield part
            part, size = [], 0
    if part:
        yield part


def read(key: str, *, service_id: UUID) -> LedgerContent:
    """Return an authentic object of this service, of whatever incarnation.

    Raises InvalidLedgerObject and StorageError.
    """
    found = bytearray()
    is_begun = False
    for piece in hosted_storage().stream(key):
        found += piece
        if len(found) > _MOST_BYTES:
            raise InvalidLedgerObject(Fault.UNREADABLE)
        if not is_begun and len(found) >= content.FIRST_BYTES:
            # Of a large foreign object only the first piece is read.
            content.begun(bytes(found[: content.FIRST_BYTES]))
            is_begun = True
    believed = content.unseal(bytes(found), key=key)
    if believed.header.service_id != service_id:
        raise InvalidLedgerObject(Fault.FOREIGN)
    if believed.header.at < expiry_cutoff():
        raise InvalidLedgerObject(Fault.EXPIRED)
    return believed


def keys(folder: str, *, after: str = "") -> Iterator[str]:
    """Yield the keys in a service's folder, in order; only those after `after`. Raises StorageError.

    Without keys that contain a NUL: no row can have one, so they are not ours.
    """
    return (key for key in hosted_storage().keys(folder, after=after) if "\0" not in key)


def folder() -> str:
    """Return the prefix of this service's objects."""
    return f"{PREFIX}{service.current().service_id}/"


def expiry_cutoff() -> datetime:
    """Return the time before which objects are expired."""
    kept: timedelta = settings.ERASURE_LEDGER_DAYS
    return timezone.now() - kept


def expired_keys() -> Iterator[str]:
    """Yield the keys of expired objects of this service. Raises StorageError."""
    at = expiry_cutoff() - timedelta(days=1)  # whole days
    # Keys are listed in order, so those to remove come first. Releases before 0.2 wrote by day, without a service.
    for prefix, last in ((folder(), f"{folder()}{at:%Y/%m/%d}/~"), (f"{PREFIX}20", f"{PREFIX}{at:%Y-%m-%d}/~")):
        yield from takewhile(lambda key, last=last: key < last, hosted_storage().keys(prefix))  # type: ignore[misc]
