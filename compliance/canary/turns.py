"""Turns of the canary: one at a time of all clusters and commands, step by step.

A worker takes the turn by a lease, goes on until something is under way or its time is over, and leaves the rest to
the next task: it never waits. What a step cannot do is tried again until its patience is over; then the turn goes on
without it, to erase what it planted, and says at its end that it could not look (`unclear`). Only a turn whose every
step was done, and whose search found what was there before, is `clean`.
"""

import logging
from datetime import timedelta

from django.conf import settings
from django.db import IntegrityError, transaction
from django.db.models import Q
from django.db.models.functions import Now

from common import leases
from common.db import fetch
from common.logs import describe_kind
from compliance.canary import steps
from compliance.canary.steps import Work
from compliance.canary.trouble import Budget, CannotTell, NotHere, Trouble
from compliance.models import Canary, CanaryFinding, CanaryTurn
from compliance.models.canary import KEPT_DAYS
from compliance.work import canary as canary_state
from compliance.work.sql import is_open
from conversations.extracts.days import last_day_over

logger = logging.getLogger(__name__)

State, Step = CanaryTurn.State, CanaryTurn.Step

# A task begins no further step after this, and each step may take as long. A call under way at its end can still take
# its own limit of time.
TASK_SECONDS = 20.0
_NEXT_LOOK, _NEXT_TRY = timedelta(seconds=10), timedelta(seconds=60)

# How long after its beginning a turn still tries its steps again: until the deletion is filed, until it is completed,
# and until the last place was looked at. After that each is tried once.
_PATIENCE = {
    **dict.fromkeys([Step.CLEAN_UP, Step.PLANT, Step.EXPORT, Step.EXTRACT, Step.CONTROL], timedelta(minutes=30)),
    Step.ERASE: timedelta(minutes=90),
    **dict.fromkeys([Step.LOOK_API, Step.LOOK_BUCKET, Step.LOOK_ROWS, Step.LOOK_LOGS], timedelta(minutes=120)),
}
# What a step that is not done in time says.
_LATE = {Step.EXTRACT: Trouble.EXTRACT_LATE}
# While these fail there is nothing to erase yet, or nothing to look for.
_BEFORE_ERASING = [Step.PLANT, Step.EXPORT, Step.EXTRACT, Step.CONTROL]
_ORDER = list(steps.STEPS)


def advance(*, seconds: float = TASK_SECONDS) -> None:
    """Begin a turn if one is due, and go on with the one that runs as far as it goes now."""
    if settings.CANARY_EVERY is not None and canary_state.is_due():
        begin(every=settings.CANARY_EVERY)
    go_on(seconds=seconds)


def begin(*, every: timedelta = timedelta()) -> CanaryTurn | None:
    """Begin a turn unless one runs, or began less than `every` ago; return the one that runs, or None."""
    canary = Canary.objects.select_related("chatbot").first()
    if canary is None:
        return None
    _forget_old()
    running = CanaryTurn.objects.filter(state=State.RUNNING)
    if not CanaryTurn.objects.filter(Q(state=State.RUNNING) | Q(began_at__gt=Now() - every)).exists():
        [(now,)] = fetch("SELECT statement_timestamp()")
        turn = CanaryTurn(chatbot=canary.chatbot, day=last_day_over(canary.chatbot.timezone, now))
        try:
            with transaction.atomic():
                turn.save(force_insert=True)
        except IntegrityError:
            pass  # another process was first
        else:
            logger.info("canary.began turn=%s", turn.pk)
    return running.first()


def go_on(*, seconds: float, pause: timedelta = _NEXT_LOOK) -> None:
    """Take the turn that runs, if no other process has it, and do its next steps.

    None begins after `seconds`; each may take as long, and a call under way its own limit of time.
    `pause`: how soon another process may look again at what is under way.
    """
    turn = leases.take(CanaryTurn.objects.filter(state=State.RUNNING).select_related("chatbot"))
    if turn is None:
        return
    whole, step = Budget(seconds), Budget(seconds)
    work = Work(Canary.objects.select_related("chatbot").get(), turn, step)
    wait: timedelta | None = None
    try:
        while wait is None and not whole.is_over and is_open():
            # What is left of a task's time could be too short for it, again and again.
            step.renew()
            wait = _do(work, pause)
            reached = {name: getattr(turn, name) for name in ("step", "state", "trouble", "trouble_at")}
            if turn.state != State.RUNNING:
                turn.write(**reached, ended_at=Now(), token=None)
                _tell(turn)
                return
            turn.write(**reached)
    except leases.LeaseLost:
        logger.warning("canary.lost turn=%s", turn.pk)
    turn.release(wait=wait or timedelta())


def _do(work: Work, pause: timedelta) -> timedelta | None:
    """Do the turn's step; set the next one, or the end, and return None; or return how long to wait."""
    turn, step = work.turn, Step(work.turn.step)
    try:
        if steps.STEPS[step](work):
            _go_to_next(turn)
            return None
        trouble, wait = CannotTell(_LATE.get(step, Trouble.NOT_CARRIED_OUT), step.value), pause
    except NotHere as error:
        # At once: a command that looks each second would keep the turn from a worker.
        trouble, wait = error, timedelta()
    except CannotTell as error:
        trouble, wait = error, _NEXT_TRY
    except leases.LeaseLost:
        raise
    except Exception as error:
        # Whatever it was, it must end the turn one day.
        logger.exception("canary.failed turn=%s step=%s", turn.pk, step.value)
        trouble, wait = CannotTell(Trouble.BROKEN, f"{step.value}: {describe_kind(error)}"), _NEXT_TRY
    # What was found is told without waiting for what cannot be looked at.
    if _age(turn) < _PATIENCE[step] and not turn.findings.exists():
        if wait == _NEXT_TRY:
            logger.warning(
                "canary.waits turn=%s step=%s code=%s where=%s", turn.pk, step, trouble.code, trouble.where
            )
        return wait
    _give_up(turn, step, trouble)
    return None


def _age(turn: CanaryTurn) -> timedelta:
    [(now,)] = fetch("SELECT statement_timestamp()")
    age: timedelta = now - turn.began_at
    return age


def _give_up(turn: CanaryTurn, step: str, trouble: CannotTell) -> None:
    """Go on without a step: to the deletion of what was planted, then to each place that can be looked at."""
    if not turn.trouble:
        turn.trouble, turn.trouble_at = trouble.code, trouble.where[:200]
    if step in _BEFORE_ERASING:
        turn.step = Step.ERASE
    elif step in {Step.CLEAN_UP, Step.ERASE}:
        # Something that was planted may still be there. Nothing more is, until a later turn has erased it: so a
        # service that erases nothing does not fill up with what the canary sends.
        turn.state = State.UNCLEAR
    else:
        _go_to_next(turn)


def _go_to_next(turn: CanaryTurn) -> None:
    place = _ORDER.index(turn.step) + 1
    if place < len(_ORDER):
        turn.step = _ORDER[place]
    elif CanaryFinding.objects.filter(turn=turn).exists():
        turn.state = State.FOUND
    else:
        turn.state = State.UNCLEAR if turn.trouble else State.CLEAN


def _tell(turn: CanaryTurn) -> None:
    """Log how a turn ended. Findings name places, and no word."""
    if turn.state == State.FOUND:
        for one in turn.findings.order_by("place", "where"):
            logger.error("canary.found turn=%s place=%s code=%s where=%s", turn.pk, one.place, one.code, one.where)
    if turn.trouble:
        logger.warning("canary.unclear turn=%s code=%s where=%s", turn.pk, turn.trouble, turn.trouble_at)
    logger.info("canary.ended turn=%s state=%s", turn.pk, turn.state)


def _forget_old() -> None:
    """Delete old turns, with their findings, but none whose chatter may still be there."""
    is_over = Q(planted_at=None) | Q(erased_at__isnull=False)
    old = CanaryTurn.objects.filter(is_over, ended_at__lt=Now() - timedelta(days=KEPT_DAYS))
    CanaryFinding.objects.filter(turn__in=old).delete()
    old.delete()
