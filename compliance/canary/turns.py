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
from compliance.canary.errors import STEP_SECONDS, Inconclusive, Trouble, UnderWay
from compliance.canary.steps import STEPS
from compliance.canary.work import Finding, Work
from compliance.models import Canary, CanaryTurn
from compliance.work.sql import is_open
from conversations.extracts.days import last_day_over

logger = logging.getLogger(__name__)

State, Step = CanaryTurn.State, CanaryTurn.Step

# What is noted on the turn during a step.
_NOTED = ("step", "state", "numbers", "file_id", "export_id", "logs", "trouble", "trouble_at", "findings")
# No further step begins after this.
TASK_SECONDS = 20.0
_NEXT_TRY = timedelta(seconds=60)

# The minutes after its beginning in which a turn retries a step: until the deletion is filed, until it is completed,
# and until the last place was searched. After that each step is tried once.
_PATIENCE = {Step.ERASE: 90, Step.LOOK_API: 120, Step.LOOK_BUCKET: 120, Step.LOOK_ROWS: 120, Step.LOOK_LOGS: 120}
_PATIENCE_BEFORE = 30
_ORDER = [Step(step) for step in STEPS]
# A turn is recorded for this long after it has ended.
_KEPT_DAYS = 90


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
        CanaryTurn.objects.filter(is_over, ended_at__lt=Now() - timedelta(days=_KEPT_DAYS)).delete()
        day = last_day_over(canary.chatbot.timezone, timezone.now())
        with suppress(IntegrityError), transaction.atomic():  # another process can be first
            logger.info("canary.began turn=%s", CanaryTurn.objects.create(chatbot=canary.chatbot, day=day).pk)
    return running.first()


def resume(*, seconds: float = TASK_SECONDS) -> None:
    """Lease the running turn, if no other process has it, and do its next steps. None begins after `seconds`."""
    turn = leases.take(CanaryTurn.objects.filter(state=State.RUNNING).select_related("chatbot"))
    if turn is None:
        return
    end, wait = time.monotonic() + seconds, None
    try:
        while wait is None and turn.state == State.RUNNING and time.monotonic() < end and is_open():
            wait = _do(Work(turn))
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
    try:
        with outbound.within(STEP_SECONDS):
            STEPS[step](work)
    except leases.LeaseLost:
        raise
    except Inconclusive as error:
        work.add_failure(error)
    except Exception as error:
        # Whatever the error is, the turn must end some day.
        logger.exception("canary.failed turn=%s step=%s", turn.pk, step.value)
        work.add_failure(Inconclusive(Trouble.BROKEN, f"{step.value}: {describe_kind(error)}"))
    found = work.findings | {Finding(**one) for one in turn.findings}
    turn.findings = [one._asdict() for one in sorted(found)]
    trouble = work.trouble
    patience = timedelta(minutes=_PATIENCE.get(step, _PATIENCE_BEFORE))
    # Findings are logged without waiting for places that cannot be searched.
    if trouble is None or found or timezone.now() - turn.began_at > patience:
        _set_next(turn, step, trouble)
        return None
    if isinstance(trouble, UnderWay):
        return timedelta()
    logger.warning("canary.waits turn=%s step=%s code=%s where=%s", turn.pk, step, trouble.code, trouble.where)
    return _NEXT_TRY


def _set_next(turn: CanaryTurn, step: CanaryTurn.Step, trouble: Inconclusive | None) -> None:
    """Set the step that follows, or the end. After trouble, the planted data is erased, and all else is searched."""
    if trouble and not turn.trouble:
        turn.trouble, turn.trouble_at = trouble.code, trouble.where[:200]
    later = _ORDER[_ORDER.index(step) + 1 :]
    if trouble and step in {Step.CLEAN_UP, Step.ERASE}:
        # Planted data may still be stored. No more is planted until a later turn has erased it, so a service that
        # erases nothing does not fill up with the canary's data.
        turn.state = State.UNCLEAR
    elif trouble and Step.ERASE in later:
        turn.step = Step.ERASE
    elif later:
        turn.step = later[0]
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
