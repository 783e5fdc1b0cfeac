"""Replay the ledger into a restored database, from the first object to the service's next life."""

import json
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from tempfile import TemporaryFile
from typing import IO

from django.db import connection, transaction

from common.db import execute, fetch, local_settings
from compliance.ledger import service as services
from compliance.models import Service
from compliance.replay import filing, loading, planning, reading
from compliance.replay.carrying import Carrying, Work
from compliance.replay.loading import Loaded
from compliance.replay.reading import Refused
from compliance.replay.report import Report

logger = logging.getLogger(__name__)

State = Service.State

Show = Callable[[Report], None]
Progress = Callable[[str, int], object]

# How long a command waits for another replay to end: the statement of a process that was killed runs on for a while.
PATIENCE_SECONDS = 15.0
# How long the report of a dry run can lie open at one place.
_READING_MINUTES = 30


class ReplayRuns(Exception):
    """Another replay is under way."""


class NotRestored(Exception):
    """The service is open, and the ledger has objects that it does not know: nothing was done.

    Either the restore was not noticed yet, or another copy of the database writes to this folder of the ledger. What
    that has erased must not be erased here.
    """

    def __init__(self, unknown: int) -> None:
        super().__init__(unknown)
        self.unknown = unknown


class LedgerGone(Exception):
    """The bucket has none of the objects that this database knows of: nothing was done."""


def replay(
    *,
    work: Work,
    show: Show = lambda _report: None,
    progress: Progress = lambda _stage, _number: None,
    is_dry_run: bool = False,
    is_restored: bool = False,
    is_without_ledger: bool = False,
    seconds: float | None = None,
) -> bool:
    """Erase again what was erased since the backup, and open the service; return False if the time was over first.

    In an open service of which the ledger knows no more than the database, it does nothing. `show` gets the report;
    in a dry run, within the transaction that is rolled back then. `is_restored` declares that the database of an open
    service was restored. After `seconds`, or a kill, the next call goes on.

    With `seconds` it is a worker's, for which nobody has asked: it repeats what this life of the database has lost
    by a failover. Where the ledger has what another life wrote, maybe a copy, the service is left to its operator.
    `is_without_ledger` declares that the bucket was lost as well, so that the service opens without it.
    Raises ReplayRuns, NotRestored, LedgerGone, and StorageError where the storage does not answer: the service stays
    closed.
    """
    deadline = time.monotonic() + seconds if seconds is not None else float("inf")
    with _alone(patience=PATIENCE_SECONDS if seconds is None else 0.0):
        service = services.current()
        report = Report(State(service.state), service.incarnation, _reach(service), is_dry_run)
        if seconds is None and not is_without_ledger and service.state != State.OPEN and reading.is_ledger_gone():
            raise LedgerGone
        if is_dry_run:
            _try_dry(service, report, show, progress)
            return True
        if service.state == State.OPEN:
            unknown = sum(1 for _ in _read(report, service, progress))
            if not unknown:
                show(report)
                return True
            if not is_restored:
                raise NotRestored(unknown)
            report.unknown, report.refused, report.lives = 0, [], []
            services.trip(State.RESTORED, Service.Reason.OBJECTS_UNKNOWN)
            service = services.current()
            report.reach = _reach(service)
        if not _load(service, report, progress, deadline, is_unasked=seconds is not None):
            return False
        _file(service, report, progress, deadline)
        carrying = Carrying(
            service.incarnation, work, deadline=deadline, progress=lambda number: progress("carried out", number)
        )
        if not carrying.run():
            return False
        report.count()
        # Before the service opens, after which nothing names them any more; so perhaps twice.
        for request_id, plan in report.to_be_told():
            logger.warning("replay.not_carried_out request=%s plan=%s", request_id, plan)
        if not _open(service):
            return False
        report.opened = True
        logger.warning(
            "replay.ended resolved=%s refused=%s conversations=%s",
            report.is_resolved,
            len(report.refused),
            report.conversations,
        )
        show(report)
    return True


def _open(service: Service) -> bool:
    """Begin the next life of the database; return False if more was found to be lost meanwhile."""
    with transaction.atomic():
        unchanged = Service.objects.select_for_update().filter(incarnation=service.incarnation, state=service.state)
        if not unchanged.exists():
            return False
        services.begin_incarnation()
    return True


def _reach(service: Service) -> int:
    """Return the highest conversation number when the restore was noticed; today's for a service that is open."""
    return services.highest_number() if service.highest_number is None else service.highest_number


def _read(report: Report, service: Service, progress: Progress) -> Iterator[tuple[Loaded, bytes]]:
    """Yield the authentic objects that no row names, and note the others in the report."""
    for key in reading.unknown_keys():
        report.unknown += 1
        found = reading.read(key, service)
        progress("objects read", 1)
        if isinstance(found, Refused):
            logger.error("replay.object_refused fault=%s key=%s", found.fault, found.key)
            report.refused.append(found)
        else:
            report.note_object(found.header.incarnation, found.header.at)
            yield Loaded.of(found), found.sha256


def _load(service: Service, report: Report, progress: Progress, deadline: float, *, is_unasked: bool = False) -> bool:
    """Load the objects that no row names; return False if the time was over first, or an operator has to decide."""
    if is_unasked and service.state != State.CATCHING_UP:
        return False
    for found, sha256 in _read(report, service, progress):
        if is_unasked and report.lives[-1].incarnation != service.incarnation:
            services.trip(State.RESTORED, Service.Reason.OBJECTS_UNKNOWN)
            return False
        report.revoked += loading.load(found, service, sha256=sha256)
        if time.monotonic() > deadline:
            return False
    return True


def _file(service: Service, report: Report, progress: Progress, deadline: float) -> None:
    """Plan and file page by page, while time is left."""
    after = planning.FIRST
    while time.monotonic() < deadline:
        with transaction.atomic():
            planned = planning.plan_next(reach=report.reach, incarnation=service.incarnation, after=after)
            filing.file(planned, reach=report.reach)
        if not planned:
            return
        after = planned[-1].request_id
        progress("filed", len(planned))


def _try_dry(service: Service, report: Report, show: Show, progress: Progress) -> None:
    """Read the objects into a file of this machine, so that no transaction waits for the storage; then plan."""
    with TemporaryFile("w+", encoding="utf-8") as spool:
        for found, _ in _read(report, service, progress):
            # Not `dump`, which writes it in very small pieces.
            spool.write(json.dumps([found.key, found.at.isoformat(), found.lines]) + "\n")
        spool.seek(0)
        with transaction.atomic():
            # It says nothing while somebody reads the report page by page, and locks no row that work needs. But no
            # other replay begins meanwhile, not even a worker's after a failover.
            execute(local_settings(idle_in_transaction_session_timeout=f"{_READING_MINUTES}min"))
            for found in _spooled(spool):
                # A key can be in several objects.
                report.revoked += set(loading.keys_to_revoke(found)).difference(report.revoked)
                loading.merge(found, service)
            for number in planning.plan_all(reach=report.reach, incarnation=service.incarnation):
                progress("planned", number)
            report.count()
            show(report)
            transaction.set_rollback(True)


def _spooled(spool: IO[str]) -> Iterator[Loaded]:
    for line in spool:
        key, at, lines = json.loads(line)
        yield Loaded(key, datetime.fromisoformat(at), lines)


@contextmanager
def _alone(*, patience: float) -> Iterator[None]:
    """Raises ReplayRuns unless this is the only replay, at the latest after so many seconds."""
    end = time.monotonic() + patience
    while not fetch("SELECT pg_try_advisory_lock(%s)", [services.REPLAY_LOCK])[0][0]:
        if time.monotonic() >= end:
            raise ReplayRuns
        time.sleep(0.2)
    try:
        yield
    finally:
        # A connection that was lost has let it go.
        if connection.is_usable():
            fetch("SELECT pg_advisory_unlock(%s)", [services.REPLAY_LOCK])
