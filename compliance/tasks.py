"""The tasks that django-q2 runs. They take no arguments and return nothing: a task row contains no data.

django-q2 stores and logs the text and traceback of a failed task, and database errors quote rows. So no error leaves
this module with its own text.
"""

import logging
from collections.abc import Callable
from functools import wraps

from django.conf import settings

from common.database_errors import was_refused_for_now
from common.isolation import Isolation, SomeFailed
from common.logs import describe_kind
from compliance import worker
from compliance.callbacks import queue as callbacks
from compliance.callbacks.queue import Callbacks
from compliance.canary import turns as canary
from compliance.ledger import tripwire
from compliance.lookups.queue import Lookups
from compliance.notifications import delivery as mails
from compliance.work import dispatcher, heartbeats, lookups, notify, occurrences, refusals
from compliance.work.background import BackgroundJobs

logger = logging.getLogger(__name__)

# Of this worker process.
_BACKGROUND = BackgroundJobs(notify.notify_workers)
_LIFE = notify.WorkerLifetime()


class TaskFailed(Exception):
    """A task stopped with an error. Only names its kind; the log has the frames."""


def _quiet(task: Callable[[], None]) -> Callable[[], None]:
    @wraps(task)
    def run() -> None:
        failure = ""
        heartbeats.worked()
        try:
            task()
        except Exception as error:
            if was_refused_for_now(error):
                logger.warning("task.refused task=%s %s", task.__name__, describe_kind(error))
                refusals.rest()
            else:
                logger.exception("task.failed task=%s", task.__name__)
                failure = str(error) if isinstance(error, SomeFailed) else describe_kind(error)
        # Jobs of its threads would start over in another worker, and perhaps never finish.
        _LIFE.count_task(is_needed=bool(_BACKGROUND.busy))
        # Raised outside the except block: its context would bring the error's text back.
        if failure:
            raise TaskFailed(failure)

    return run


@_quiet
def drain() -> None:
    """Do waiting work. Notifies another worker of a backlog, and of work it leaves."""
    if worker.drain(on_backlog=notify.notify_workers, background=_BACKGROUND):
        notify.notify_workers()


@_quiet
def sweep() -> None:
    """Runs every minute: do what is due by time, and what lost tasks were for."""
    with Isolation() as isolated:
        with isolated.part("sweep"):
            worker.sweep(_BACKGROUND)
            occurrences.note(occurrences.Name.SWEEP)
        if callbacks.is_due() or lookups.is_any_due():
            notify.enqueue_callbacks()
        if settings.MAILS:
            notify.enqueue("send_mails")
        if worker.drain(on_backlog=notify.notify_workers, background=_BACKGROUND):
            notify.notify_workers()
        # Last: requests do not wait for it.
        with isolated.part("canary"):
            if settings.CANARY_URL and tripwire.look_if_due():
                canary.advance()


@_quiet
def deliver_callbacks() -> None:
    """Send due callbacks and make due look-ups, in one turn. Enqueues another if some are left."""
    if tripwire.look_if_due() and dispatcher.run([Callbacks(), Lookups()], seconds=dispatcher.TURN_SECONDS):
        notify.enqueue_callbacks()


@_quiet
def send_mails() -> None:
    """Mail notifications to officers. Enqueues another turn if some are left."""
    if tripwire.look_if_due() and mails.deliver():
        notify.enqueue("send_mails")
