"""Conversation Data Retention: a chatbot's period, and its runs.

The first sweep after RUNS_AT in the chatbot's time zone files one run a day (`file_due_runs`). Setting or shortening
the period files the first run at once, announced with its number; it waits FIRST_RUN_WAITS, and no other run is filed
meanwhile. Cancelling or rejecting it sets the period back (`restore_period`).
"""

from datetime import date, datetime, time, timedelta
from typing import Any, NamedTuple, cast
from uuid import UUID
from zoneinfo import ZoneInfo

from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction
from django.db.models import F, OuterRef, Q, Subquery
from django.db.models.functions import Now
from uuid_utils.compat import uuid7

from chatbots import changelog, locks
from chatbots.models import LONGEST_RETENTION, SHORTEST_RETENTION, Chatbot
from chatbots.operations.chatbots import extracts_outlive
from common.db import fetch
from common.isolation import Isolation, in_any_order
from common.texts import counted
from compliance.cluster import notify
from compliance.deadlines import deadline_from
from compliance.erasure import extracts
from compliance.models import ComplianceRequest, RetentionRun
from compliance.retention import due
from compliance.work.outbox import announce
from compliance.work.transitions import requeue
from conversations.placement import machines

Kind = ComplianceRequest.Kind
Status = ComplianceRequest.Status

RUNS_AT = time(3)
FIRST_RUN_WAITS = timedelta(hours=24)
FORECAST = timedelta(days=30)
# If the number exceeds the announced one by this part, the run needs an approval: more than time may have changed.
TOLERANCE = 0.1
# How long a page waits for the numbers.
_COUNT_SECONDS = 3.0

_OPEN = [Status.ACCEPTED, Status.ON_HOLD, Status.PROCESSING]
# A failed run can be retried.
_NOT_ENDED = [*_OPEN, Status.FAILED]
# A run that was announced and cancelled is of a period that is not in force.
_COUNTS = Q(announced=None) | ~Q(request__status__in=[Status.CANCELLED, Status.REJECTED])
_NEWEST_FIRST = ("-day", "-pk")


class NotFiled(Exception):
    """No run was filed. The text contains the reason, and what comes next."""


class Forecast(NamedTuple):
    """How much a period would erase in its first run, and by FORECAST later. `is_whole`: see `due.Count`."""

    first_run: int
    later: int
    is_whole: bool


def forecast(chatbot: Chatbot, days: int, *, is_quick: bool = True) -> Forecast:
    """Count the conversations that the first run of this period would erase, and those due within FORECAST after it.

    For a few seconds, unless `is_quick` is false.
    """
    seconds = _COUNT_SECONDS if is_quick else None
    first_run_at = _now() + FIRST_RUN_WAITS
    first = due.count(chatbot, first_run_at - timedelta(days=days), seconds=seconds)
    later = due.count(chatbot, first_run_at + FORECAST - timedelta(days=days), seconds=seconds)
    return Forecast(first.number, max(later.number - first.number, 0), is_whole=first.is_whole and later.is_whole)


def change_period(*, chatbot: Chatbot, days: int | None, actor: str, confirmed: int | None = None) -> Chatbot:
    """Set the period in days, or None for none, and return the chatbot.

    A shorter period than the one in force, or the first one, needs `confirmed`: the number that `forecast` has shown
    for the first run, which this files. Any change ends a run that waits, and one that is under way.
    Raises ValidationError (`retention_days`, `confirmed`).
    """
    with transaction.atomic():
        current = locks.locked(chatbot.pk)
        check_period(current, days)
        before = current.retention_days
        if days == before and (days is None or current.retention_set_at):
            return current
        is_first = days is not None and needs_confirmation(current, days)
        if is_first and confirmed is None:
            raise ValidationError({"confirmed": "Type the number of conversations that the first run will erase."})
        in_force = _in_force(current)
        _cancel_waiting(current, actor)
        set_at = _set(current, days, actor)
        if days is not None and is_first:
            # Of two changes in a row the first has not erased anything: the period before it is still in force.
            starts_at = set_at + FIRST_RUN_WAITS
            RetentionRun.objects.create(
                chatbot=current,
                request=_file(current, ComplianceRequest.Origin.CONSOLE, actor, not_before=starts_at),
                retention_days=days,
                older_than=starts_at - timedelta(days=days),
                day=_day(current, starts_at),
                announced=confirmed,
                previous_days=in_force,
                # The clock is not read again, since it can have been set back.
                created_at=set_at,
            )
    return current


def check_period(chatbot: Chatbot, days: int | None) -> None:
    """Raise ValidationError (`retention_days`) unless the chatbot can have this period."""
    if days is None:
        return
    if not SHORTEST_RETENTION <= days <= LONGEST_RETENTION:
        raise ValidationError({"retention_days": f"Choose {SHORTEST_RETENTION} to {LONGEST_RETENTION:,} days."})
    if chatbot.extracts_enabled and extracts_outlive(chatbot, days):
        kept = settings.HOSTED_FILE_DAYS.days
        detail = (
            f"The daily extracts of this chatbot are kept for {counted(kept, 'day')}, and each run would rebuild "
            f"them. Choose {counted(kept + 1, 'day')} or more, turn daily extracts off, or ask an operator to lower "
            "HOSTED_FILE_DAYS."
        )
        raise ValidationError({"retention_days": detail})


def label(days: int) -> str:
    """Return `12 months (365 days)` for a period of the product's list, and `45 days` for another one."""
    listed, number = dict(Chatbot.RetentionDays.choices).get(days), counted(days, "day")
    return f"{listed} ({number})" if listed else number


def needs_confirmation(chatbot: Chatbot, days: int) -> bool:
    """Return whether this period is the chatbot's first one, or shorter than the one in force."""
    if days == chatbot.retention_days and chatbot.retention_set_at:
        return False
    in_force = _in_force(chatbot)
    return in_force is None or days < in_force


def _in_force(chatbot: Chatbot) -> int | None:
    """Return the period by which conversations are erased now.

    A period whose first run waits has not erased anything yet, and a backup's period may have been ended since.
    """
    if chatbot.retention_set_at is None:
        return None
    waiting = waiting_first_run(chatbot)
    return waiting.previous_days if waiting else chatbot.retention_days


def holds(run: RetentionRun) -> bool:
    """Return whether the chatbot still has the period that this run was filed for.

    A period that was set again is another one. A period that a restore has brought back holds once staff have
    confirmed it. A replayed run holds whatever the period is: it erases what was erased before the database was
    restored.
    """
    if run.request and run.request.origin == ComplianceRequest.Origin.REPLAY:
        return True
    chatbot = Chatbot.objects.get(pk=run.chatbot_id)
    return chatbot.retention_set_at is not None and not is_replaced(run, chatbot)


def is_replaced(run: RetentionRun, chatbot: Chatbot) -> bool:
    """Return whether the period was set anew since this run was filed."""
    is_older = chatbot.retention_set_at is not None and chatbot.retention_set_at > run.created_at
    return is_older or chatbot.retention_days != run.retention_days


def is_of_backup(request: ComplianceRequest) -> bool:
    """Return whether this run is held since a restore has brought back its period."""
    return request.kind == Kind.RETENTION and request.hold_reason == ComplianceRequest.HoldReason.RESTORED


def confirm(request: ComplianceRequest) -> None:
    """Confirm the period that a restore has brought back, in the transaction that approves its run.

    The one before it is not confirmed: if the run is cancelled after all, there is none.
    """
    run = request.retention_run
    restored = Chatbot.objects.filter(pk=run.chatbot_id, retention_set_at=None)
    if restored.update(retention_set_at=run.created_at):
        RetentionRun.objects.filter(pk=run.pk).update(previous_days=None)


def lock_chatbot_of(request_id: UUID) -> None:
    """Lock the chatbot of a retention run, whose period a decision may set back, before the run is locked."""
    of_run = ComplianceRequest.objects.filter(pk=request_id, kind=Kind.RETENTION)
    locks.lock(*of_run.values_list("chatbot", flat=True))


def count_due(chatbot: Chatbot) -> int | None:
    """Return how many conversations are due now; None without a period."""
    if chatbot.retention_days is None:
        return None
    return due.count(chatbot, _now() - timedelta(days=chatbot.retention_days)).number


def file_due_runs() -> int:
    """File today's run for each chatbot whose time has come, and return how many. Called by every sweep.

    Runs that have failed are retried. Chatbots on a silent machine are skipped, since their due conversations are
    there. Raises PartsFailed after all chatbots.
    """
    filed = 0
    reachable = machines.reachable(Chatbot.objects.values_list("pk", flat=True))
    failed = ComplianceRequest.objects.filter(
        chatbot__in=reachable, chatbot__gt=0, status=Status.FAILED, kind=Kind.RETENTION, cutoff_at__isnull=False
    ).select_related("chatbot")
    runs = RetentionRun.objects.filter(_COUNTS, chatbot=OuterRef("pk")).order_by(*_NEWEST_FIRST)
    chatbots = Chatbot.objects.filter(pk__in=reachable, retention_days__isnull=False)
    with Isolation() as isolated:
        for request in in_any_order(failed):
            with isolated.chatbot(request.chatbot_id):
                _retry(request)
        for chatbot in in_any_order(chatbots.annotate(latest=Subquery(runs.values("day")[:1]))):
            with isolated.chatbot(chatbot.pk):
                # Here, not in SQL: PostgreSQL has time zones of its own, and may lack some of ours.
                now = _now()
                is_today = is_time(ZoneInfo(chatbot.timezone), now)
                if is_today and (chatbot.latest is None or chatbot.latest < _day(chatbot, now)):
                    filed += _file_if_due(chatbot.pk, actor="worker") is not None
    return filed


def is_time(zone: ZoneInfo, now: datetime) -> bool:
    """Return whether the run of the day may begin. Where clocks skip RUNS_AT, it is when they have."""
    return now.astimezone(zone).time() >= RUNS_AT


def file_run(chatbot: Chatbot, *, actor: str) -> ComplianceRequest | None:
    """File today's run now, and return its request; None if nothing is due.

    Raises NotFiled if retention is off, a run waits or is under way, or today's was filed already.
    """
    if chatbot.retention_days is None:
        raise NotFiled("Retention is off. Set a period with set_retention, or in the console.")
    if run := _current_run(chatbot):
        raise NotFiled(f"A run waits or is under way: request {run.request_id}.")
    day = _day(chatbot)
    if RetentionRun.objects.filter(chatbot=chatbot, day=day, announced=None, request__isnull=False).exists():
        raise NotFiled(f"The run of {day} was filed already. The next one follows tomorrow.")
    return _file_if_due(chatbot.pk, actor=actor)


def waiting_first_run(chatbot: Chatbot) -> RetentionRun | None:
    """Return the announced first run of the period while it has not begun, with its request. It may have failed."""
    is_latest = Q(chatbot__retention_set_at=None) | Q(chatbot__retention_set_at__lte=F("created_at"))
    runs = RetentionRun.objects.filter(is_latest, chatbot=chatbot, chatbot__retention_days=F("retention_days"))
    runs = runs.filter(announced__isnull=False, request__status__in=_NOT_ENDED)
    return runs.filter(request__cutoff_at=None).select_related("request").order_by("-pk").first()


def latest_run(chatbot: Chatbot) -> RetentionRun | None:
    """Return the newest run, with its request."""
    return RetentionRun.objects.filter(chatbot=chatbot).select_related("request").order_by(*_NEWEST_FIRST).first()


def restore_period(request: ComplianceRequest, *, actor: str) -> None:
    """Set the period back to what it was before this first run was announced, in the transaction that ends it.

    Does nothing for another request, or if the period was changed since.
    """
    run = RetentionRun.objects.filter(request=request, announced__isnull=False).first()
    if run is None:
        return
    chatbot = locks.locked(request.chatbot_id)
    if is_replaced(run, chatbot):
        return
    _set(chatbot, run.previous_days, actor, is_confirmed=chatbot.retention_set_at is not None)


def _file_if_due(chatbot_id: int, *, actor: str) -> ComplianceRequest | None:
    """File today's run unless there is one. Return its request, None also if another worker was first."""
    try:
        with transaction.atomic():
            chatbot = locks.locked(chatbot_id)
            if chatbot.retention_days is None or _current_run(chatbot):
                return None
            older_than = _now() - timedelta(days=chatbot.retention_days)
            request = None
            if due.any_due(chatbot_id, older_than):
                request = _file(chatbot, ComplianceRequest.Origin.SCHEDULE, actor)
            of_today: dict[str, Any] = {"chatbot": chatbot, "day": _day(chatbot)}
            RetentionRun.objects.filter(**of_today, request=None).delete()
            RetentionRun.objects.create(
                **of_today, request=request, retention_days=chatbot.retention_days, older_than=older_than
            )
    except IntegrityError:
        return None
    return request


def _retry(request: ComplianceRequest) -> None:
    """Queue a run that had begun, and has failed before this night, again.

    No other run examines the conversations that it has closed, and they cannot be read. It ends as soon as they are
    erased if its period is not in force any more.
    """
    now = _now()
    tonight = datetime.combine(_day(request.chatbot, now), RUNS_AT, ZoneInfo(request.chatbot.timezone))
    if request.failed_at is None or not request.failed_at < tonight <= now:
        return
    with transaction.atomic():
        locks.lock(request.chatbot_id)
        for failed in ComplianceRequest.objects.select_for_update().filter(pk=request.pk, status=Status.FAILED):
            requeue.queue_again(failed)
            extracts.retry([failed.pk])
            _log("request.retried", failed.chatbot_id, request_id=failed.pk, actor="worker")
            notify.after_commit(notify.notify_workers)


def _set(chatbot: Chatbot, days: int | None, actor: str, *, is_confirmed: bool = True) -> datetime:
    """Set the period, which ends runs of another one, and return the time."""
    now = _now()
    chatbot.retention_days, chatbot.retention_set_at = days, now if is_confirmed else None
    chatbot.save(update_fields=["retention_days", "retention_set_at"])
    _log("chatbot.changed", chatbot.pk, actor=actor, data={"setting": "retention_days", "value": days})
    return now


def _file(
    chatbot: Chatbot, origin: ComplianceRequest.Origin, actor: str, *, not_before: datetime | None = None
) -> ComplianceRequest:
    request = ComplianceRequest.objects.create(
        id=uuid7(),
        chatbot=chatbot,
        kind=Kind.RETENTION,
        lane=ComplianceRequest.Lane.LARGE,
        origin=origin,
        filed_by=actor,
        not_before=not_before,
        **deadline_from(not_before, chatbot_id=chatbot.pk),
    )
    data = {"kind": str(request.kind), "origin": str(origin)}
    _log("request.accepted", chatbot.pk, request_id=request.pk, actor=actor, data=data)
    notify.after_commit(notify.notify_workers)
    return request


def _log(event: str, chatbot_id: int, **fields: Any) -> None:
    # Not `record`: a worker may not read the change log.
    changelog.record_all([changelog.entry(event, chatbot_id=chatbot_id, **fields)])


def _current_run(chatbot: Chatbot) -> RetentionRun | None:
    runs = RetentionRun.objects.filter(chatbot=chatbot, request__status__in=_OPEN)
    # After a first run that failed before it began, the next one would not be compared with the number.
    return runs.order_by(*_NEWEST_FIRST).first() or waiting_first_run(chatbot)


def _cancel_waiting(chatbot: Chatbot, actor: str) -> None:
    """Cancel the runs that have not begun: they are of a period that no longer holds."""
    # By the chatbot's runs, which are few, where its requests may be many.
    waiting = ComplianceRequest.objects.select_for_update(of=("self",)).filter(
        retention_run__chatbot=chatbot, chatbot=chatbot, status__in=_NOT_ENDED, cutoff_at=None, claim=None
    )
    ids = [one.pk for one in waiting.only("pk")]
    ComplianceRequest.objects.filter(pk__in=ids).update(
        status=Status.CANCELLED, hold_reason=None, failed_at=None, cancelled_at=Now()
    )
    for request_id in ids:
        _log("request.cancelled", chatbot.pk, request_id=request_id, actor=actor)
    announce(ids)


def _day(chatbot: Chatbot, at: datetime | None = None) -> date:
    return (at or _now()).astimezone(ZoneInfo(chatbot.timezone)).date()


def _now() -> datetime:
    [(now,)] = fetch("SELECT statement_timestamp()")
    return cast("datetime", now)
