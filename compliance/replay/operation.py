"""Replay the ledger into a restored database, from the first object to the service's next life."""

import json
import logging
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import closing, contextmanager
from datetime import datetime
from tempfile import TemporaryFile
from typing import IO
from uuid import UUID

from django.conf import settings
from django.db import DataError, Error, IntegrityError, connection, transaction
from django.db.backends.utils import CursorWrapper
from django.utils import timezone

from common.database_errors import describe_database_error
from common.db import execute, local_settings
from compliance.ledger import service as services
from compliance.models import LedgerLine, Service
from compliance.replay import decisions, filing, loading, open_exports, planning, reading
from compliance.replay.carrying import Carrying, Work
from compliance.replay.loading import Loaded
from compliance.replay.reading import Refused
from compliance.replay.report import Report
from conversations.locks import await_running

logger = logging.getLogger(__name__)

State = Service.State

Show = Callable[[Report], None]
Progress = Callable[[str, int], object]

# How long a command waits for another replay to end.
PATIENCE_SECONDS = 15.0

# What a line says cannot be stored. Other errors are those of the database, or of a machine, and end the replay.
_REFUSALS = (IntegrityError, DataError)

_LOCK_LOST = (
    "The connection to the database that kept other replays away was lost. What was done until now stays done: run "
    "it again, and it goes on."
)


class ReplayRuns(Exception):
    """Another replay is under way, or can be. The text says which, and what to do."""


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

    In an open service of which the ledger knows no more than the database, it does nothing, but for lines that wait
    for a decision, which are tried again. `show` gets the report. `is_restored` declares that the database of an open
    service, or a part of it, was restored: then all objects since the oldest backup that may be restored are read,
    also those that the database knows. After `seconds`, or a kill, the next call goes on.

    With `seconds` it is a worker's, for which nobody has asked: it repeats what this life of the database has lost
    by a failover. Where the ledger has what another life wrote, maybe a copy, the service is left to its operator.
    `is_without_ledger` declares that the bucket was lost as well, so that the service opens without it.
    Raises ReplayRuns, NotRestored, LedgerGone, and StorageError where the storage does not answer: the service stays
    closed.
    """
    deadline = time.monotonic() + seconds if seconds is not None else float("inf")
    with _alone(patience=PATIENCE_SECONDS if seconds is None else 0.0) as check:
        progress = _checked(progress, check)
        service = services.current()
        report = Report(State(service.state), service.incarnation, _reach(service), is_dry_run)
        if seconds is None and not is_without_ledger and service.state != State.OPEN and reading.is_ledger_gone():
            raise LedgerGone
        goes_on = service.reads_since if service.state == State.RESTORED else None
        since = timezone.now() - settings.BACKUP_HORIZON_DAYS if is_restored else goes_on
        if is_dry_run:
            _try_dry(service, report, since, progress)
        elif service.state == State.OPEN and not (is_restored or _has_work(service, report, progress)):
            pass
        elif not _replay(
            report,
            work=work,
            progress=progress,
            check=check,
            deadline=deadline,
            since=since,
            is_unasked=seconds is not None,
        ):
            return False
    show(report)
    return True


def leave(request_ids: Collection[UUID]) -> None:
    """As `decisions.leave`. Raises ReplayRuns too."""
    with _alone(patience=PATIENCE_SECONDS):
        decisions.leave(request_ids)


def _replay(
    report: Report,
    *,
    work: Work,
    progress: Progress,
    check: Callable[[], None],
    deadline: float,
    since: datetime | None,
    is_unasked: bool,
) -> bool:
    """Load, file and carry out, and open the service; return False if the time was over first."""
    if since:
        with transaction.atomic():
            # Stored, so that a replay that was stopped goes on with the same objects.
            Service.objects.update(reads_since=since)
            services.trip(State.RESTORED, Service.Reason.OBJECTS_UNKNOWN)
    service = services.current()
    report.reach = _reach(service)
    # They came back with the backup, or are of a replay that was killed.
    decisions.try_again(service.incarnation)
    if not _load(service, report, progress, deadline, since=since, is_unasked=is_unasked):
        return False
    _file(service, report, progress, deadline)
    carrying = Carrying(
        service.incarnation,
        work,
        deadline=deadline,
        progress=lambda number: progress("carried out", number),
        check=check,
    )
    if not carrying.run():
        return False
    decisions.close_undecided(service.incarnation)
    report.count()
    # Before the service opens, after which nothing names them any more; so perhaps twice.
    for request_id, plan in report.to_be_told():
        logger.warning("replay.not_carried_out request=%s plan=%s", request_id, plan)
    check()
    if not _open(service):
        return False
    report.opened = True
    logger.warning(
        "replay.ended resolved=%s refused=%s conversations=%s",
        report.is_resolved,
        len(report.refused),
        report.conversations,
    )
    return True


def _has_work(service: Service, report: Report, progress: Progress) -> bool:
    """Return whether lines of an open service wait for a decision, and have them tried again. Raises NotRestored."""
    if unknown := sum(1 for _ in _read(report, service, progress)):
        raise NotRestored(unknown)
    decisions.try_again(service.incarnation)
    # Also those of a trial that was stopped: any others belong to a life that is over.
    ours = LedgerLine.objects.filter(incarnation=service.incarnation)
    if not ours.filter(outcome__in=["", LedgerLine.Outcome.FILED]).exists():
        return False
    report.unknown, report.refused = 0, []  # they are read once more
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


def _read(
    report: Report, service: Service, progress: Progress, *, since: datetime | None = None
) -> Iterator[tuple[Loaded, bytes]]:
    """Yield the authentic objects that no row names, with `since` all from then on; note others in the report."""
    for key in reading.keys(since=since):
        report.unknown += 1
        found = reading.read(key, service)
        progress("objects read", 1)
        if isinstance(found, Refused):
            logger.error("replay.object_refused fault=%s key=%s", found.fault, found.key)
            report.refused.append(found)
        else:
            report.note_object(found.header.incarnation, found.header.at)
            yield Loaded.of(found), found.sha256


def _load(
    service: Service,
    report: Report,
    progress: Progress,
    deadline: float,
    *,
    since: datetime | None = None,
    is_unasked: bool = False,
) -> bool:
    """Load the objects that no row names; return False if the time was over first, or an operator has to decide."""
    if is_unasked and service.state != State.CATCHING_UP:
        return False
    for found, sha256 in _read(report, service, progress, since=since):
        if is_unasked and report.lives[-1].incarnation != service.incarnation:
            services.trip(State.RESTORED, Service.Reason.OBJECTS_UNKNOWN)
            return False
        report.revoked += loading.load(found, service, sha256=sha256)
        if time.monotonic() > deadline:
            return False
    return True


def _file(service: Service, report: Report, progress: Progress, deadline: float = float("inf")) -> None:
    """Plan and file page by page, while time is left, then end open exports.

    A line that cannot be filed waits for a decision, alone.
    """
    of_chatbots = LedgerLine.objects.filter(incarnation=service.incarnation, outcome="", chatbot__isnull=False)
    for chatbot_id in of_chatbots.values_list("chatbot", flat=True).order_by().distinct():
        # An intake that began before the service was closed may be about to store something. A dry run would keep
        # the lock.
        if not report.is_dry_run:
            with transaction.atomic():
                await_running(chatbot_id)
    after = planning.FIRST
    while time.monotonic() < deadline:
        try:
            filed = _file_page(service, report, after, planning.LINES)
        except _REFUSALS:
            filed = _file_one_by_one(service, report, after)
        if not filed:
            open_exports.end(service.incarnation)
            return
        after = filed[-1]
        progress("filed", len(filed))


def _file_page(service: Service, report: Report, after: UUID, most: int) -> list[UUID]:
    with transaction.atomic():
        execute("SET CONSTRAINTS ALL IMMEDIATE")
        planned = planning.plan_next(reach=report.reach, incarnation=service.incarnation, after=after, most=most)
        filing.file(planned, reach=report.reach)
    return [one.request_id for one in planned]


def _file_one_by_one(service: Service, report: Report, after: UUID) -> list[UUID]:
    filed: list[UUID] = []
    while len(filed) < planning.LINES:
        try:
            some = _file_page(service, report, after, 1)
        except _REFUSALS as error:
            failure = describe_database_error(error)
            some = planning.leave_next(incarnation=service.incarnation, after=after)
            logger.error("replay.not_filed request=%s %s", some[0], failure)  # noqa: TRY400  (it would quote rows)
        if not some:
            break
        filed += some
        after = filed[-1]
    return filed


def _try_dry(service: Service, report: Report, since: datetime | None, progress: Progress) -> None:
    """Do all that the replay does before it erases, in one transaction, and roll it back.

    The objects are read before into a file of this machine, so that no transaction waits for the storage.
    """
    with TemporaryFile("w+", encoding="utf-8") as spool:
        for found, _ in _read(report, service, progress, since=since):
            # Not `dump`, which writes it in very small pieces.
            spool.write(json.dumps([found.key, found.at.isoformat(), found.lines]) + "\n")
        spool.seek(0)
        with transaction.atomic():
            decisions.try_again(service.incarnation)
            for found in _spooled(spool):
                report.revoked += loading.load(found, service)
            _file(service, report, progress)
            report.count()
            report.keep()
            transaction.set_rollback(True)


def _spooled(spool: IO[str]) -> Iterator[Loaded]:
    for line in spool:
        key, at, lines = json.loads(line)
        yield Loaded(key, datetime.fromisoformat(at), lines)


@contextmanager
def _alone(*, patience: float) -> Iterator[Callable[[], None]]:
    """Keep other replays away; yield a check, which raises ReplayRuns once that is over.

    Raises ReplayRuns unless this is the only replay, at the latest after so many seconds.

    The lock is that of a transaction, which a pooler leaves its session: one of its own, since a replay consists of
    many. It says nothing in between, for as long as that takes, and holds no snapshot.
    """
    end = time.monotonic() + patience
    with closing(connection.copy()) as guard:
        guard.set_autocommit(False)
        with guard.cursor() as cursor:
            cursor.execute(local_settings(idle_in_transaction_session_timeout="0"))
            while not _is_locked(cursor):
                if time.monotonic() >= end:
                    raise ReplayRuns("Another replay is under way: wait for it.")
                time.sleep(0.2)

            def check() -> None:
                try:
                    cursor.execute("SELECT 1")
                except Error:
                    raise ReplayRuns(_LOCK_LOST) from None

            yield check


def _checked(progress: Progress, check: Callable[[], None]) -> Progress:
    """Return `progress` after a check: it is called after each step."""

    def checked(stage: str, number: int) -> None:
        check()
        progress(stage, number)

    return checked


def _is_locked(cursor: CursorWrapper) -> bool:
    cursor.execute("SELECT pg_try_advisory_xact_lock(%s)", [services.REPLAY_LOCK])
    return bool(cursor.fetchone()[0])
