"""Turns of the canary: one at a time of all clusters and commands, step by step.

A worker takes the turn by a lease, goes on until something is under way or its time is over, and leaves the rest to
the next sweep: it never waits. What a step cannot do is tried again until its patience is over; then the turn goes on
without it, to erase what it planted, and says at its end that it could not look (`unclear`). Only a turn whose every
step was done, and whose search found what was there before, is `clean`.
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
from compliance.canary.report import STEP_SECONDS, Inconclusive, Report, Trouble
from compliance.canary.steps import STEPS, Work
from compliance.models import Canary, CanaryTurn
from compliance.models.canary import KEPT_DAYS
from compliance.work.sql import is_open
from conversations.extracts.days import last_day_over

logger = logging.getLogger(__name__)

State, Step = CanaryTurn.State, CanaryTurn.Step

# No further step begins after this.
TASK_SECONDS = 20.0
_NEXT_TRY = timedelta(seconds=60)

# For so many minutes after its beginning a turn tries a step again: until the deletion is filed, until it is
# completed, and until the last place was looked at. After that each is tried once.
_PATIENCE = {Step.ERASE: 90, Step.LOOK_API: 120, Step.LOOK_BUCKET: 120, Step.LOOK_ROWS: 120, Step.LOOK_LOGS: 120}
_PATIENCE_BEFORE = 30
_ORDER = list(STEPS)


def advance() -> None:
    """Begin a turn if one is due, and go on with the one that runs as far as it goes now."""
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
        # Of the old ones none whose chatter may still be there.
        is_over = Q(planted_at=None) | Q(erased_at__isnull=False)
        CanaryTurn.objects.filter(is_over, ended_at__lt=Now() - timedelta(days=KEPT_DAYS)).delete()
        day = last_day_over(canary.chatbot.timezone, timezone.now())
        with suppress(IntegrityError), transaction.atomic():  # another process can be first
            logger.info("canary.began turn=%s", CanaryTurn.objects.create(chatbot=canary.chatbot, day=day).pk)
    return running.first()


def resume(*, seconds: float = TASK_SECONDS) -> None:
    """Take the turn that runs, if no other process has it, and do its next steps. None begins after `seconds`."""
    turn = leases.take(CanaryTurn.objects.filter(state=State.RUNNING).select_related("chatbot"))
    if turn is None:
        return
    work, end, wait = Work(turn), time.monotonic() + seconds, None
    try:
        while wait is None and turn.state == State.RUNNING and time.monotonic() < end and is_open():
            wait = _do(work)
            names = ("step", "state", "trouble", "trouble_at", "findings")
            ended_at = None if turn.state == State.RUNNING else Now()
            turn.write(ended_at=ended_at, **{name: getattr(turn, name) for name in names})
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
    is_done = False
    try:
        with outbound.within(STEP_SECONDS):
            is_done = STEPS[step](work)
    except Inconclusive as error:
        report.add_failure(error.code, error.where)
    except leases.LeaseLost:
        raise
    except Exception as error:
        # Whatever it was, it must end the turn one day.
        logger.exception("canary.failed turn=%s step=%s", turn.pk, step.value)
        report.add_failure(Trouble.BROKEN, f"{step.value}: {describe_kind(error)}")
    found = report.findings | {(one["place"], one["code"], one["where"]) for one in turn.findings}
    turn.findings = [{"place": place, "code": code, "where": where} for place, code, where in sorted(found)]
    if is_done and not report.trouble:
        _advance(turn)
        return None
    late = Trouble.EXTRACT_LATE if step == Step.EXTRACT else Trouble.NOT_CARRIED_OUT
    trouble = report.trouble or Inconclusive(late, step.value)
    # What was found is told without waiting for what cannot be looked at.
    if found or timezone.now() - turn.began_at > timedelta(minutes=_PATIENCE.get(step, _PATIENCE_BEFORE)):
        _skip_step(turn, step, trouble)
        return None
    if report.trouble is None or trouble.where == "CANARY_LOG_FILES":
        # At once: a command that looks each second would keep the turn from a worker, which has that setting.
        return timedelta()
    logger.warning("canary.waits turn=%s step=%s code=%s where=%s", turn.pk, step, trouble.code, trouble.where)
    return _NEXT_TRY


def _skip_step(turn: CanaryTurn, step: str, trouble: Inconclusive) -> None:
    """Go on without a step: to the deletion of what was planted, then to each place that can be looked at."""
    if not turn.trouble:
        turn.trouble, turn.trouble_at = trouble.code, trouble.where[:200]
    if step in {Step.CLEAN_UP, Step.ERASE}:
        # Something that was planted may still be there. Nothing more is, until a later turn has erased it: so a
        # service that erases nothing does not fill up with what the canary sends.
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
    """Log how a turn ended. Findings name places, and no word."""
    for one in turn.findings:
        where = one["place"], one["code"], one["where"]
        logger.error("canary.found turn=%s place=%s code=%s where=%s", turn.pk, *where)
    if turn.trouble:
        logger.warning("canary.unclear turn=%s code=%s where=%s", turn.pk, turn.trouble, turn.trouble_at)
    logger.info("canary.ended turn=%s state=%s", turn.pk, turn.state)
