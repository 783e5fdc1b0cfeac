"""Turns of the canary: one at a time for all clusters and commands, step by step.

A worker leases the turn, and does its steps until one has to wait or the time is over. It leaves the rest to the next
sweep, and never waits. A step that fails is retried until its patience is over. Then the turn continues without it,
erases what it planted, and ends as `unclear`: the search was incomplete. A turn is `clean` only if every step was
done, and its search found the planted data before the deletion.
"""

import logging
import time
from contextlib import suppress
from datetime import timedelta

from django.conf import settings
from django.db import IntegrityError, transaction
from django.db.models import Q
from django.db.models.functions import Now
from django.utils import timezone

from common import leases, outbound
from common.logs import describe_kind
from compliance.canary.report import STEP_SECONDS, Finding, Inconclusive, Report, Trouble, UnderWay
from compliance.canary.steps import STEPS
from compliance.canary.work import Work
from compliance.models import Canary, CanaryTurn
from compliance.models.canary import KEPT_DAYS
from compliance.work.sql import is_open
from conversations.extracts.days import last_day_over

logger = logging.getLogger(__name__)

State, Step = CanaryTurn.State, CanaryTurn.Step

# What the steps have noted on the turn.
_NOTED = (
    "step",
    "state",
    "numbers",
    "file_id",
    "export_id",
    "deletion_id",
    "logs",
    "trouble",
    "trouble_at",
    "findings",
)
# No further step begins after this.
TASK_SECONDS = 20.0
_NEXT_TRY = timedelta(seconds=60)

# The minutes after its beginning in which a turn retries a step: until the deletion is filed, until it is completed,
# and until the last place was searched. After that each step is tried once.
_PATIENCE = {Step.ERASE: 90, Step.LOOK_API: 120, Step.LOOK_BUCKET: 120, Step.LOOK_ROWS: 120, Step.LOOK_LOGS: 120}
_PATIENCE_BEFORE = 30
_ORDER = list(STEPS)


def advance() -> None:
    """Begin a turn if one is due, and do the steps of the running turn that are possible now."""
    if settings.CANARY_EVERY is not None:
        begin(every=settings.CANARY_EVERY)
    resume()


def begin(*, every: timedelta = timedelta()) -> CanaryTurn | None:
    """Begin a turn unless one runs, or began less than `every` ago; return the one that runs, or None."""
    canary = Canary.objects.select_related("chatbot").first()
    if canary is None:
        return None
    running = CanaryTurn.objects.filter(state=State.RUNNING)
    if not CanaryTurn.objects.filter(Q(state=State.RUNNING) | Q(began_at__gt=Now() - every)).exists():
        # Not old turns whose chatter may still be stored.
        is_over = Q(planted_at=None) | Q(erased_at__isnull=False)
        CanaryTurn.objects.filter(is_over, ended_at__lt=Now() - timedelta(days=KEPT_DAYS)).delete()
        day = last_day_over(canary.chatbot.timezone, timezone.now())
        with suppress(IntegrityError), transaction.atomic():  # another process can be first
            logger.info("canary.began turn=%s", CanaryTurn.objects.create(chatbot=canary.chatbot, day=day).pk)
    return running.first()


def resume(*, seconds: float = TASK_SECONDS) -> None:
    """Lease the running turn, if no other process has it, and do its next steps. None begins after `seconds`."""
    turn = leases.take(CanaryTurn.objects.filter(state=State.RUNNING).select_related("chatbot"))
    if turn is None:
        return
    work, end, wait = Work(turn), time.monotonic() + seconds, None
    try:
        while wait is None and turn.state == State.RUNNING and time.monotonic() < end and is_open():
            wait = _do(work)
            ended_at = None if turn.state == State.RUNNING else Now()
            turn.write(ended_at=ended_at, **{name: getattr(turn, name) for name in _NOTED})
    except leases.LeaseLost:
        logger.warning("canary.lost turn=%s", turn.pk)
        return
    turn.release(wait=wait or timedelta())
    if turn.state != State.RUNNING:
        _log_end(turn)


def _do(work: Work) -> timedelta | None:
    """Do the turn's step; set the next one, or the end, and return None; or return how long to wait."""
    turn, step = work.turn, Step(work.turn.step)
    report = work.report = Report()
    try:
        with outbound.within(STEP_SECONDS):
            STEPS[step](work)
    except leases.LeaseLost:
        raise
    except Inconclusive as error:
        report.add_failure(error)
    except Exception as error:
        # Whatever the error is, the turn must end some day.
        logger.exception("canary.failed turn=%s step=%s", turn.pk, step.value)
        report.add_failure(Inconclusive(Trouble.BROKEN, f"{step.value}: {describe_kind(error)}"))
    found = report.findings | {Finding(**one) for one in turn.findings}
    turn.findings = [one._asdict() for one in sorted(found)]
    trouble = report.trouble
    if trouble is None:
        _advance(turn)
    # Findings are logged without waiting for places that cannot be searched.
    elif found or timezone.now() - turn.began_at > timedelta(minutes=_PATIENCE.get(step, _PATIENCE_BEFORE)):
        _skip_step(turn, step, trouble)
    elif isinstance(trouble, UnderWay):
        return timedelta()
    else:
        logger.warning("canary.waits turn=%s step=%s code=%s where=%s", turn.pk, step, trouble.code, trouble.where)
        return _NEXT_TRY
    return None


def _skip_step(turn: CanaryTurn, step: str, trouble: Inconclusive) -> None:
    """Skip a step: continue with the deletion of the planted data, then with each place that can be searched."""
    if not turn.trouble:
        turn.trouble, turn.trouble_at = trouble.code, trouble.where[:200]
    if step in {Step.CLEAN_UP, Step.ERASE}:
        # Planted data may still be stored. No more is planted until a later turn has erased it, so a service that
        # erases nothing does not fill up with the canary's data.
        turn.state = State.UNCLEAR
    elif _ORDER.index(step) < _ORDER.index(Step.ERASE):
        turn.step = Step.ERASE
    else:
        _advance(turn)


def _advance(turn: CanaryTurn) -> None:
    place = _ORDER.index(turn.step) + 1
    if place < len(_ORDER):
        turn.step = _ORDER[place]
    elif turn.findings:
        turn.state = State.FOUND
    else:
        turn.state = State.UNCLEAR if turn.trouble else State.CLEAN


def _log_end(turn: CanaryTurn) -> None:
    """Log the end of a turn. Findings contain places, and no word."""
    for one in turn.findings:
        where = one["place"], one["code"], one["where"]
        logger.error("canary.found turn=%s place=%s code=%s where=%s", turn.pk, *where)
    if turn.trouble:
        logger.warning("canary.unclear turn=%s code=%s where=%s", turn.pk, turn.trouble, turn.trouble_at)
    logger.info("canary.ended turn=%s state=%s", turn.pk, turn.state)
