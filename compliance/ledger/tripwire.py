"""Notice that the database was restored from a backup: the ledger then has objects without a row in the database.

The row of an object is committed before the object exists. So an authentic object of this life of the database
without a row was written in the time that the restore has lost. Workers check before they work and each minute. They
list the folder of this service, from a while before the newest object with a row, or before the last check:

    unknown and authentic           restored; `catching_up` if little is lost, as after a failover
    the same, but this server was up before it was written, on the same timeline
                                    it was not restored since, so a copy works under our name: `ledger_foreign`
    unknown, not authentic          `ledger_foreign`; closes nothing
    known and written, but gone     the bucket was rolled back: `ledger_missing`, and it is written again

A program that can write to the bucket can put more objects there than a check has time for. Such a check does not
count as a comparison: the next one lists the same objects, and reads those that this process has not read yet.
"""

import logging
import random
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import NamedTuple
from uuid import UUID

from django.conf import settings

from common.db import execute, fetch_one
from common.storage import StorageError, errors
from compliance.cluster import occurrences
from compliance.errors import StepFailed
from compliance.ledger import journal, objects, service
from compliance.ledger.content import Fault, Header, InvalidLedgerObject
from compliance.ledger.service import Reason, State
from compliance.models import LedgerObject

logger = logging.getLogger(__name__)

# Interval between checks.
EVERY = timedelta(seconds=60)
# Keys of transactions that overlap can be in another order than that of their commits.
BEFORE_THE_NEWEST = timedelta(minutes=15)
# About the time that an asynchronous replica can lack.
LITTLE = timedelta(hours=1)
# The difference between the clocks of two database servers, at most.
_CLOCKS = timedelta(minutes=5)
# The number of keys in memory.
_MOST_KEYS = 20_000
# The time for reading unknown objects in a worker's check: half of it from the oldest on, which shows how much was
# lost, and the rest at random, so that planted objects cannot hide others.
_SECONDS = 10.0
# After this time another process checks, if no process may work before: this one was killed.
_TURN_SECONDS = 2 * _SECONDS
# After an error of the storage, for this process.
_PAUSE_SECONDS = 10.0

_BEFORE = f"""
SELECT s.state = 'open',
       s.checked_at IS NULL OR s.checked_at NOT BETWEEN statement_timestamp() - %(every)s AND statement_timestamp(),
       s.server NOT IN ('', {service.SERVER}), s.timeline IS DISTINCT FROM {service.TIMELINE},
       s.service_id, s.incarnation, statement_timestamp(), pg_postmaster_start_time(),
       (SELECT max(at) FROM compliance_ledgerobject), s.checked_at
  FROM compliance_service s
"""  # noqa: S608  (texts of ours)
# After the listing, so that each listed object's row was committed before.
_AFTER = f"""
WITH listed AS MATERIALIZED (
    SELECT key FROM unnest(%(keys)s::text[]) AS one(key)
), unknown AS MATERIALIZED (
    SELECT key FROM listed WHERE NOT EXISTS (SELECT FROM compliance_ledgerobject o WHERE o.key = listed.key)
), noted AS (
    UPDATE compliance_service SET checked_at = statement_timestamp(), timeline = {service.TIMELINE}
     WHERE state = 'open' AND NOT EXISTS (SELECT FROM unknown)
)
SELECT ARRAY(SELECT key FROM unknown),
       (SELECT count(*) FROM compliance_ledgerobject o
         WHERE o.at >= %(since)s AND o.written_at < %(began)s
           AND NOT EXISTS (SELECT FROM listed WHERE listed.key = o.key)),
       (SELECT mended_to IS NOT NULL FROM compliance_service)
"""  # noqa: S608
_NOTE = f"""
UPDATE compliance_service SET checked_at = statement_timestamp(), timeline = {service.TIMELINE} WHERE state = 'open'
"""  # noqa: S608

_LOOK = occurrences.Name.LEDGER_LOOK

# Why an authentic object is foreign: a copy of this database, or an earlier life of it, works under our name.
_ANOTHER_WRITER = "another_writer"

_looks_again_at = 0.0
# The objects that this process has read for an unfinished comparison: why each is refused, or its header.
_read: dict[str, Fault | Header] = {}


class _Snapshot(NamedTuple):
    """The state of the database before the listing. Times are the database's."""

    is_open: bool
    is_due: bool
    is_elsewhere: bool
    has_other_timeline: bool  # after a failover, or a recovery from a backup
    service_id: UUID
    incarnation: UUID
    now: datetime
    up_since: datetime
    newest: datetime | None
    checked_at: datetime | None

    @property
    def can_be_restored(self) -> bool:
        """Return whether a restore can be later than the last check: it restarts the server or begins a timeline."""
        was_started = self.checked_at is not None and self.checked_at < self.up_since
        return was_started or self.has_other_timeline

    @property
    def since(self) -> datetime:
        """The time from which objects are listed: older ones have expired."""
        kept: datetime = self.now - settings.ERASURE_LEDGER_DAYS
        if not (self.newest and self.checked_at):
            return kept
        # Before its first check a restored database can have written objects that are newer than the lost ones.
        return max(kept, min(self.newest, self.checked_at) - BEFORE_THE_NEWEST)

    def has_lost(self, header: Header) -> bool:
        """Return whether an authentic object is one that this database has lost."""
        # From the future: the clock of this server is not reliable.
        tells_by_time = self.up_since + _CLOCKS <= header.at <= self.now + _CLOCKS
        return header.incarnation == self.incarnation and (self.has_other_timeline or not tells_by_time)


def check_if_due() -> bool:
    """Check unless another process has within the last minute; return whether the database may be worked on.

    One process checks at a time. The others work meanwhile, and so does this one if the storage does not answer or
    the time of its check is over first. But no process works in a database that can have been restored since the last
    comparison.
    """
    global _looks_again_at  # noqa: PLW0603  (of this process)
    before = _snapshot()
    if before is None or not before.is_open:
        return before is None
    if not (before.is_due or before.is_elsewhere or before.can_be_restored):
        return True
    every = _TURN_SECONDS if before.can_be_restored else EVERY.total_seconds()
    if not before.is_elsewhere and (time.monotonic() < _looks_again_at or not occurrences.ask(_LOOK, every=every)):
        return not before.can_be_restored
    try:
        is_compared = _check(before, seconds=_SECONDS)
    except StorageError as error:
        logger.warning("ledger.not_compared code=%s", error.code)
        _looks_again_at = time.monotonic() + _PAUSE_SECONDS
        occurrences.release(_LOOK)
        return not before.can_be_restored
    if is_compared:
        # Otherwise the next check has to wait, so that there is time for work.
        occurrences.release(_LOOK)
    return service.is_open() and (is_compared or not before.can_be_restored)


def check() -> None:
    """Compare the ledger with this database, and close it if it was restored. Raises StorageError.

    Reads all unknown objects, however long that takes. Does nothing in a database that is closed already.
    """
    before = _snapshot()
    if before and before.is_open:
        _check(before, seconds=float("inf"))


def _snapshot() -> _Snapshot | None:
    row = fetch_one(_BEFORE, {"every": EVERY})
    return _Snapshot(*row) if row else None


def _check(before: _Snapshot, *, seconds: float) -> bool:
    """Check, and read unknown objects for `seconds`; return False if the time was over before all was compared."""
    if before.is_elsewhere:
        service.trip(State.RESTORED, Reason.OTHER_SERVER, life=before.incarnation)
        return True
    folder = f"{objects.PREFIX}{before.service_id}/"
    after = f"{folder}{before.since.astimezone(UTC):%Y/%m/%d/%H%M%S}"
    listed = list(islice(objects.keys(folder, after=after), _MOST_KEYS))
    is_whole = len(listed) < _MOST_KEYS
    row = fetch_one(_AFTER, {"keys": listed, "since": before.since, "began": before.now})
    unknown, gone, is_mending = row or ([], 0, False)
    is_compared = True
    if unknown:
        reader = _Reader(before, sorted(unknown), seconds=seconds)
        if _trip_if_lost(before, reader, is_whole=is_whole):
            return True  # its lines about requests are out of date
        is_compared = is_whole and not reader.unread
        if is_compared:
            execute(_NOTE)
        else:
            logger.warning("ledger.not_compared code=too_many_unknown objects=%s", len(unknown))
    if is_compared:
        _read.clear()
    if gone and is_whole:
        journal.begin_mending(gone)
        is_mending = True
    if is_mending:
        try:
            journal.mend()
        except (StorageError, StepFailed) as error:
            logger.warning("ledger.not_mended code=%s", error.code)
    return is_compared


def _trip_if_lost(before: _Snapshot, reader: "_Reader", *, is_whole: bool) -> bool:
    """Read unknown objects, and close the database if it has lost one; return whether it has."""
    oldest = reader.first_lost(reader.unknown, share=0.5)
    is_oldest = oldest is not None
    if oldest is None:
        oldest = reader.first_lost(random.sample(reader.unread, len(reader.unread)))
    if reader.faults:
        occurrences.note(occurrences.Name.LEDGER_FOREIGN)
        faults = ",".join(f"{fault}:{number}" for fault, number in sorted(reader.faults.items()))
        logger.error("ledger.foreign objects=%s %s", len(reader.unknown), faults)
    if oldest is None:
        return False
    newest = reader.first_lost(reversed(reader.unread)) or oldest
    age = abs(before.now - oldest.at)
    is_little = is_oldest and is_whole and age < LITTLE and newest.at - oldest.at < LITTLE
    state = State.CATCHING_UP if is_little else State.RESTORED
    service.trip(state, Reason.OBJECTS_UNKNOWN, life=before.incarnation)
    return True


class _Reader:
    """Reads unknown objects for some seconds; `faults` counts by reason those that this database cannot have lost."""

    def __init__(self, before: _Snapshot, unknown: Sequence[str], *, seconds: float) -> None:
        self.unknown = unknown
        self.faults: Counter[str] = Counter()
        self._before = before
        self._seconds = seconds
        self._began = time.monotonic()
        self._done: set[str] = set()
        for key in _read.keys() - unknown:
            del _read[key]

    @property
    def unread(self) -> Sequence[str]:
        return [key for key in self.unknown if key not in self._done]

    def first_lost(self, keys: Iterable[str], *, share: float = 1.0) -> Header | None:
        """Return the header of the first of these objects that this database has lost. Raises StorageError.

        None too once this share of the time is over.
        """
        for key in keys:
            if key not in _read and time.monotonic() - self._began >= share * self._seconds:
                return None
            found = self._found(key)
            self._done.add(key)
            if isinstance(found, Fault):
                self.faults[found] += 1
                continue
            if self._before.has_lost(found):
                return found
            self.faults[_ANOTHER_WRITER] += 1
            if found.incarnation == self._before.incarnation:
                # Known from now on: after a restart of this server, nothing would distinguish it from a lost object.
                # Its lines are about another database, so no replay may read it here.
                LedgerObject.objects.bulk_create([LedgerObject(key=key, at=found.at)], ignore_conflicts=True)
        return None

    def _found(self, key: str) -> Fault | Header:
        """Return the fault or header of an object, read now or in an earlier check."""
        if (known := _read.get(key)) is not None:
            return known
        try:
            found: Fault | Header = objects.read(key, service_id=self._before.service_id).header
        except InvalidLedgerObject as refused:
            found = refused.fault
        except StorageError as error:
            if error.code != errors.INCOMPLETE:
                raise
            # This object alone: removed since it was listed, or archived.
            return Fault.UNREADABLE
        _read[key] = found
        return found
