"""Replay the ledger into a restored database, from the first object to the service's next life."""

import json
import logging
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from tempfile import TemporaryFile
from uuid import UUID

from django.conf import settings
from django.db import DataError, Error, IntegrityError, connection, transaction
from django.db.backends.utils import CursorWrapper
from django.db.models import Q
from django.db.models.functions import Now
from django.utils import timezone

from chatbots import changelog
from chatbots.models import Chatbot
from common.database_errors import describe_database_error
from common.db import execute, local_settings
from common.texts import counted
from compliance import holds
from compliance.ledger import service as services
from compliance.models import ComplianceRequest, LedgerLine, Service
from compliance.replay import filing, loading
from compliance.replay.loading import LoadedObject, Refused
from compliance.replay.report import Report
from compliance.replay.runner import ReplayRunner, Work
from conversations.locks import wait_for_intake

logger = logging.getLogger(__name__)

Outcome = LedgerLine.Outcome
State = Service.State

Show = Callable[[Report], None]
Progress = Callable[[str, int], object]

# How long a command waits for another replay to end.
PATIENCE_SECONDS = 15.0

# The number of lines that one transaction plans and files.
_LINES = 500
# Errors of a line that cannot be stored. Other errors are those of the database, or of a machine, and end the replay.
_REFUSALS = (IntegrityError, DataError)

_LOCK_LOST = (
    "The connection to the database that kept other replays away was lost. What was done until now stays done: run "
    "it again, and it goes on."
)


# Deletions that were found by their conversations, which are erased. Their variable is not here, so their chatter
# cannot be remembered. Decisions of an operator stay.
_WITHOUT_VARIABLE = """
UPDATE compliance_ledgerline l SET outcome = 'undecided'
 WHERE incarnation = %s AND plan IN ('erase', 'late') AND outcome <> 'decided' AND line->>'variable' IS NOT NULL
   AND NOT EXISTS (SELECT FROM chatbots_variable v
                    WHERE v.chatbot_id = l.chatbot_id AND v.public_id = (l.line->>'variable')::uuid)
"""


_LEDGER_GONE = (
    "Nothing was done. The bucket has none of the ledger's objects that this database knows of, so S3_BUCKET names "
    "another bucket, or it was lost, too. Set it to the bucket that has the ledger, or copy a replica of "
    "erasure_ledger/ back. If there is none: --without-ledger opens the service, with the data of people erased "
    "since the backup."
)
# Conversations that a copy has erased must not be erased here.
_NOT_RESTORED = (
    "Nothing was done. The ledger has {unknown} that this database does not know, but the service is open: "
    "no worker has found that it was restored. If a copy of the database wrote them (staging), erasing here what was "
    "erased there would be wrong: give the copy an identity of its own (adopt --new-service). If this database was "
    "restored from a backup, use --restored; --dry-run shows what it would erase."
)


class ReplayRefused(Exception):
    """Another replay is under way, or an operator has to decide first. The text contains the reason, and what to do.

    `needs_decision`: nothing was changed.
    """

    def __init__(self, text: str, *, needs_decision: bool = False) -> None:
        super().__init__(text)
        self.needs_decision = needs_decision


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
    """Repeat the erasures since the backup, and open the service; return False if the time was over first.

    In an open service whose ledger has no unknown objects, it only retries lines that wait for a decision. `show`
    gets the report. `is_restored` declares that the database of an open service, or a part of it, was restored: then
    all objects since the oldest backup that may be restored are read, also those with a row. After `seconds`, or a
    kill, the next call continues.

    With `seconds` it is the automatic catch-up by a worker: it repeats the requests that this life of the database
    has lost in a failover. If the ledger has objects of another life, maybe a copy's, the service is left to its
    operator. `is_without_ledger` declares that the bucket was lost as well, so that the service opens without it.
    Raises ReplayRefused, and StorageError if the storage does not answer: the service stays closed.
    """
    deadline = time.monotonic() + seconds if seconds is not None else float("inf")
    with _alone(patience=PATIENCE_SECONDS if seconds is None else 0.0) as check:
        service = services.current()
        if seconds is None and not is_without_ledger and service.state != State.OPEN and loading.is_ledger_gone():
            raise ReplayRefused(_LEDGER_GONE, needs_decision=True)
        goes_on = service.reads_since if service.state == State.RESTORED else None
        since = timezone.now() - settings.BACKUP_HORIZON_DAYS if is_restored else goes_on
        report = Report(State(service.state), service.incarnation, _reach(service), is_dry_run)
        run = _Replay(service, report, check, progress, since=since, deadline=deadline)
        if is_dry_run:
            run.rehearse()
        elif (service.state != State.OPEN or is_restored or run.has_work()) and not run.carry_out(
            work, is_unasked=seconds is not None
        ):
            return False
    show(report)
    return True


def leave(request_ids: Collection[UUID]) -> None:
    """Decide that nothing more is done for these requests, and open the chatbots that wait for no other decision.

    Raises ReplayRefused if one of them waits for no decision.
    """
    with _alone(patience=PATIENCE_SECONDS), transaction.atomic():
        lines = LedgerLine.objects.filter(outcome=Outcome.UNDECIDED, chatbot__isnull=False)
        waiting = dict(lines.filter(pk__in=request_ids).values_list("pk", "chatbot"))
        if missing := set(request_ids) - waiting.keys():
            raise ReplayRefused(f"No decision is awaited about {', '.join(map(str, missing))}. Nothing was changed.")
        for request_id, chatbot_id in waiting.items():
            changelog.record("request.left", chatbot_id=chatbot_id, request_id=request_id, actor="command")
        lines.filter(pk__in=waiting).update(outcome=Outcome.DECIDED)
        _close_undecided()
    logger.warning("replay.left requests=%s", ",".join(map(str, request_ids)))


@dataclass
class _Replay:
    """One call of `replay`. `check` is called after each step, and raises where another replay can have begun."""

    service: Service
    report: Report
    check: Callable[[], None]
    show: Progress
    since: datetime | None
    deadline: float

    def has_work(self) -> bool:
        """Return whether lines of an open service wait for a decision, and have them tried again.

        Raises ReplayRefused if the ledger has unknown objects.
        """
        if unknown := sum(1 for _ in self._read()):
            raise ReplayRefused(_NOT_RESTORED.format(unknown=counted(unknown, "object")), needs_decision=True)
        self._try_again()
        # Also lines of a dry run that was stopped: any others belong to a life that is over.
        ours = LedgerLine.objects.filter(incarnation=self.service.incarnation)
        if not ours.filter(outcome__in=["", Outcome.FILED]).exists():
            return False
        self.report.unknown, self.report.refused = 0, []  # they are read once more
        return True

    def rehearse(self) -> None:
        """Do all steps of the replay before the erasure in one transaction, and roll it back.

        The objects are read into a local file first, so that no transaction waits for the storage.
        """
        with TemporaryFile("w+", encoding="utf-8") as spool:
            for found in self._read():
                # Not `dump`, which writes in very small pieces.
                spool.write(json.dumps([found.key, str(found.at), str(found.incarnation), found.lines]) + "\n")
            spool.seek(0)
            with transaction.atomic():
                self._try_again()
                for key, at, life, lines in map(json.loads, spool):
                    found = LoadedObject(key, datetime.fromisoformat(at), UUID(life), lines)
                    self.report.revoked += loading.load(found, self.service)
                self._file()
                self.report.count()
                self.report.keep()
                transaction.set_rollback(True)

    def carry_out(self, work: Work, *, is_unasked: bool) -> bool:
        """Load, file and carry out, and open the service; return False if the time was over first."""
        if self.since:
            with transaction.atomic():
                # Stored, so that a stopped replay continues with the same objects.
                Service.objects.update(reads_since=self.since)
                services.trip(State.RESTORED, Service.Reason.OBJECTS_UNKNOWN)
        self.service = services.current()
        self.report.reach = _reach(self.service)
        # These rows came back with the backup, or are of a replay that was killed.
        self._try_again()
        if not self._load(is_unasked=is_unasked):
            return False
        self._file()
        runner = ReplayRunner(
            self.service.incarnation, work, self.deadline, partial(self._progress, "carried out"), self.check
        )
        if not runner.run():
            return False
        with transaction.atomic():
            execute(_WITHOUT_VARIABLE, [self.service.incarnation])
            _close_undecided()
        self.report.count()
        # Before the service opens, since nothing identifies them afterwards. So it may happen twice.
        for request_id, plan in self.report.unreported():
            logger.warning("replay.not_carried_out request=%s plan=%s", request_id, plan)
        self.check()
        if not _open(self.service):
            return False
        self.report.opened = True
        logger.warning(
            "replay.ended resolved=%s refused=%s conversations=%s",
            self.report.is_resolved,
            len(self.report.refused),
            self.report.conversations,
        )
        return True

    def _progress(self, stage: str, number: int) -> None:
        self.check()
        self.show(stage, number)

    def _try_again(self) -> None:
        """Plan and file undecided lines again, of any life."""
        undecided = LedgerLine.objects.filter(outcome=Outcome.UNDECIDED)
        life = self.service.incarnation
        undecided.update(incarnation=life, plan="", outcome="", numbers=None, conversations=0)

    def _read(self) -> Iterator[LoadedObject]:
        """Yield the authentic objects to be loaded; record all in the report."""
        for key in loading.keys(since=self.since):
            self.report.unknown += 1
            found = loading.read(key, self.service)
            self._progress("objects read", 1)
            if isinstance(found, Refused):
                logger.error("replay.object_refused fault=%s key=%s", found.fault, found.key)
                self.report.refused.append(found)
            else:
                self.report.note_object(found.incarnation, found.at)
                yield found

    def _load(self, *, is_unasked: bool) -> bool:
        """Load all objects; return False if the time was over first, or an operator has to decide."""
        if is_unasked and self.service.state != State.CATCHING_UP:
            return False
        for found in self._read():
            if is_unasked and found.incarnation != self.service.incarnation:
                services.trip(State.RESTORED, Service.Reason.OBJECTS_UNKNOWN)
                return False
            self.report.revoked += loading.load(found, self.service)
            if time.monotonic() > self.deadline:
                return False
        return True

    def _file(self) -> None:
        """Plan and file page by page, while time is left, then end open exports."""
        life = self.service.incarnation
        of_chatbots = LedgerLine.objects.filter(incarnation=life, outcome="", chatbot__isnull=False)
        for chatbot_id in of_chatbots.values_list("chatbot", flat=True).order_by().distinct():
            # An intake that began before the service was closed may be about to store something. A dry run would
            # keep the lock.
            if not self.report.is_dry_run:
                with transaction.atomic():
                    wait_for_intake(chatbot_id)
        after = filing.FIRST
        while time.monotonic() < self.deadline:
            filed = self._file_page(after)
            if not filed:
                filing.end_exports(life)
                self._release_unheld()
                return
            after = filed[-1]
            self._progress("filed", len(filed))

    def _release_unheld(self) -> None:
        """Let requests of the backup continue that were held by legal holds which the lost life has released."""
        waiting = ComplianceRequest.objects.filter(status="on_hold", hold_reason="legal_hold")
        for chatbot in Chatbot.objects.filter(pk__in=waiting.values("chatbot").order_by().distinct()):
            with transaction.atomic():
                holds.release_unheld(chatbot)

    def _file_page(self, after: UUID) -> list[UUID]:
        """File the next lines; if that is refused, one by one.

        A line that cannot be filed alone waits for a decision.
        """
        next_lines = partial(
            filing.file_next,
            reach=self.report.reach,
            incarnation=self.service.incarnation,
            is_dry_run=self.report.is_dry_run,
        )
        try:
            return next_lines(after=after, most=_LINES)
        except _REFUSALS:
            filed = [after]
        for _ in range(_LINES):
            try:
                some = next_lines(after=filed[-1], most=1)
            except _REFUSALS as error:
                some = filing.defer_next(incarnation=self.service.incarnation, after=filed[-1])
                failure = describe_database_error(error)
                logger.error("replay.not_filed request=%s %s", some[0], failure)  # noqa: TRY400  (it quotes rows)
            if not some:
                break
            filed += some
        return filed[1:]


def _reach(service: Service) -> int:
    """Return the highest conversation number when the restore was noticed; today's for a service that is open."""
    return services.highest_number() if service.highest_number is None else service.highest_number


def _open(service: Service) -> bool:
    """Begin the next life of the database; return False if more was found to be lost meanwhile."""
    with transaction.atomic():
        unchanged = Service.objects.select_for_update().filter(incarnation=service.incarnation, state=service.state)
        if not unchanged.exists():
            return False
        services.begin_incarnation()
    return True


def _close_undecided() -> None:
    """Close the chatbots of lines that are undecided, and open all others."""
    lines = LedgerLine.objects.filter(chatbot__isnull=False).order_by()
    undecided = list(lines.filter(outcome=Outcome.UNDECIDED).values_list("chatbot", flat=True).distinct())
    # Lines of a dry run that was stopped.
    ours = Q(incarnation=services.current().incarnation, outcome__in=["", Outcome.FILED])
    unended = list(lines.filter(ours).values_list("chatbot", flat=True).distinct())
    Chatbot.objects.filter(pk__in=undecided, closed_at=None).update(closed_at=Now())
    Chatbot.objects.exclude(closed_at=None).exclude(pk__in=[*undecided, *unended]).update(closed_at=None)


@contextmanager
def _alone(*, patience: float) -> Iterator[Callable[[], None]]:
    """Exclude other replays; yield a check that raises ReplayRefused once the lock is lost.

    Raises ReplayRefused unless this is the only replay, after `patience` seconds at most.

    The lock belongs to a transaction, since a pooler keeps the session of one. It is a transaction of its own, since
    a replay consists of many. It is idle for the whole replay, and holds no snapshot.
    """
    end = time.monotonic() + patience
    with closing(connection.copy()) as guard:
        guard.set_autocommit(False)
        with guard.cursor() as cursor:
            cursor.execute(local_settings(idle_in_transaction_session_timeout="0"))
            while not _is_locked(cursor):
                if time.monotonic() >= end:
                    raise ReplayRefused("Another replay is under way: wait for it.")
                time.sleep(0.2)

            def check() -> None:
                try:
                    cursor.execute("SELECT 1")
                except Error:
                    raise ReplayRefused(_LOCK_LOST) from None

            yield check


def _is_locked(cursor: CursorWrapper) -> bool:
    cursor.execute("SELECT pg_try_advisory_xact_lock(%s)", [services.REPLAY_LOCK])
    return bool(cursor.fetchone()[0])
