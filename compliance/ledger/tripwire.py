"""Notice that the database was restored from a backup: the ledger then has objects that the database does not know.

The row of an object is committed before the object exists. So an authentic object of this life of the database that
has no row was written by what the restore has lost. Workers look before they work and each minute, at the folder of
this service, from a while before the newest object that the database knows, or before the last look:

    unknown and authentic           restored; `catching_up` if little is lost, as after a failover
    the same, but this server was up before it was written, on the same timeline
                                    it was not restored since, so a copy works under our name: `ledger_foreign`
    unknown, not authentic          `ledger_foreign`; closes nothing
    known and written, but gone     the bucket was rolled back: `ledger_missing`, and it is written again
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
from compliance.errors import StepFailed
from compliance.ledger import mending, objects, service
from compliance.ledger.content import Fault, Header, NotBelieved
from compliance.ledger.service import Reason, State
from compliance.models import LedgerObject
from compliance.work import occurrences

logger = logging.getLogger(__name__)

# Who comes later looks before it works.
EVERY = timedelta(seconds=60)
# Keys of transactions that overlap can be in another order than that of their commits.
BEFORE_THE_NEWEST = timedelta(minutes=15)
# About what an asynchronous replica can lack.
LITTLE = timedelta(hours=1)
# By how much the clocks of two database servers may differ.
_CLOCKS = timedelta(minutes=5)
# Unknown keys that are kept in mind, and how many are read: from the oldest on, then at random.
_MOST_KEYS = 20_000
_MOST_READ = 50
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

# Why an authentic object is foreign: a copy of this database, or an earlier life of it, works under our name.
_ANOTHER_WRITER = "another_writer"

_looks_again_at = 0.0


class _Before(NamedTuple):
    """What the database says before the listing. Times are its own."""

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
        """Return whether a restore can have come after the last look: it makes a server start or a timeline begin."""
        was_started = self.checked_at is not None and self.checked_at < self.up_since
        return was_started or self.has_other_timeline

    @property
    def since(self) -> datetime:
        """From when on objects are listed: older ones have expired."""
        kept: datetime = self.now - settings.ERASURE_LEDGER_DAYS
        if not (self.newest and self.checked_at):
            return kept
        # Before its first look a restored database can have written objects that are newer than what it has lost.
        return max(kept, min(self.newest, self.checked_at) - BEFORE_THE_NEWEST)

    def has_lost(self, header: Header) -> bool:
        """Return whether an authentic object is one that this database has lost."""
        # From the future: the clock of this server is not to be relied on.
        tells_by_time = self.up_since + _CLOCKS <= header.at <= self.now + _CLOCKS
        return header.incarnation == self.incarnation and (self.has_other_timeline or not tells_by_time)


def look_if_due() -> bool:
    """Look unless somebody has within the last minute; return whether the database may be worked on.

    Without an answer of the storage nothing is known. Work goes on then, but not in a database that can have been
    restored since the last look.
    """
    global _looks_again_at  # noqa: PLW0603  (of this process)
    before = _before()
    if before is None or not before.is_open:
        return before is None
    if not (before.is_due or before.is_elsewhere or before.can_be_restored):
        return True
    if time.monotonic() < _looks_again_at:
        return not before.can_be_restored
    try:
        _look(before)
    except StorageError as error:
        logger.warning("ledger.not_compared code=%s", error.code)
        _looks_again_at = time.monotonic() + _PAUSE_SECONDS
        return not before.can_be_restored
    return service.is_open()


def look() -> None:
    """Compare the ledger with this database, and close it if it was restored. Raises StorageError.

    Does nothing in a database that is closed already.
    """
    before = _before()
    if before and before.is_open:
        _look(before)


def _before() -> _Before | None:
    row = fetch_one(_BEFORE, {"every": EVERY})
    return _Before(*row) if row else None


def _look(before: _Before) -> None:
    if before.is_elsewhere:
        service.trip(State.RESTORED, Reason.OTHER_SERVER, life=before.incarnation)
        return
    folder = f"{objects.PREFIX}{before.service_id}/"
    after = f"{folder}{before.since.astimezone(UTC):%Y/%m/%d/%H%M%S}"
    listed = list(islice(objects.keys(folder, after=after), _MOST_KEYS))
    is_whole = len(listed) < _MOST_KEYS
    row = fetch_one(_AFTER, {"keys": listed, "since": before.since, "began": before.now})
    unknown, gone, is_mending = row or ([], 0, False)
    if unknown:
        if _trip_if_lost(before, sorted(unknown), is_whole=is_whole):
            return  # what it says of its requests is not true any more
        execute(_NOTE)
    if gone and is_whole:
        mending.begin(gone)
        is_mending = True
    if is_mending:
        try:
            mending.go_on()
        except (StorageError, StepFailed) as error:
            logger.warning("ledger.not_mended code=%s", error.code)


def _trip_if_lost(before: _Before, unknown: Sequence[str], *, is_whole: bool) -> bool:
    """Read unknown objects, and close the database if it has lost one; return whether it has."""
    reader = _Reader(before)
    oldest = reader.first_lost(unknown[:_MOST_READ])
    is_oldest = oldest is not None
    if oldest is None:
        rest = unknown[_MOST_READ:]
        oldest = reader.first_lost(random.sample(rest, min(len(rest), _MOST_READ)))
    if reader.faults:
        occurrences.note(occurrences.Name.LEDGER_FOREIGN)
        faults = ",".join(f"{fault}:{number}" for fault, number in sorted(reader.faults.items()))
        logger.error("ledger.foreign objects=%s %s", len(unknown), faults)
    if oldest is None:
        return False
    newest = reader.first_lost(unknown[: -_MOST_READ - 1 : -1]) or oldest
    age = abs(before.now - oldest.at)
    is_little = is_oldest and is_whole and age < LITTLE and newest.at - oldest.at < LITTLE
    state = State.CATCHING_UP if is_little else State.RESTORED
    service.trip(state, Reason.OBJECTS_UNKNOWN, life=before.incarnation)
    return True


class _Reader:
    """Reads unknown objects; `faults` counts those that this database cannot have lost, by reason."""

    def __init__(self, before: _Before) -> None:
        self._before = before
        self.faults: Counter[str] = Counter()

    def first_lost(self, keys: Iterable[str]) -> Header | None:
        """Return the header of the first of these objects that this database has lost. Raises StorageError."""
        for key in keys:
            try:
                header = objects.read(key, service_id=self._before.service_id).header
            except NotBelieved as refused:
                self.faults[refused.fault] += 1
                continue
            except StorageError as error:
                if error.code != errors.INCOMPLETE:
                    raise
                # This object alone: removed since it was listed, or archived.
                self.faults[Fault.UNREADABLE] += 1
                continue
            if self._before.has_lost(header):
                return header
            self.faults[_ANOTHER_WRITER] += 1
            if header.incarnation == self._before.incarnation:
                # Known from now on: once this server was started anew, nothing would tell it from one that was lost.
                # What it says is of another database, so no replay is to read it here.
                LedgerObject.objects.bulk_create([LedgerObject(key=key, at=header.at)], ignore_conflicts=True)
        return None
