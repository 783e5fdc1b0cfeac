"""Worker entry points for django-q2. They take no arguments and return nothing: a task row holds no data.

django-q2 keeps and logs the text and traceback of a task that fails, and an error of the database quotes rows.
So no error leaves this module with its own text.
"""

import logging
from collections.abc import Callable
from functools import wraps

from django.conf import settings

from common.logs import describe_kind
from compliance import worker
from compliance.callbacks import dispatcher, leases
from compliance.notifications import delivery as mails
from compliance.work import heartbeats, notify, occurrences
from compliance.work.background import BackgroundJobs

logger = logging.getLogger(__name__)

# Of this worker process.
_BACKGROUND = BackgroundJobs(notify.notify_workers)
_LIFE = notify.WorkerLifetime()


class TaskFailed(Exception):
    """A task stopped with an error; says its kind only. The log has the frames."""


def _quiet(task: Callable[[], None]) -> Callable[[], None]:
    @wraps(task)
    def run() -> None:
        failure = ""
        heartbeats.worked()
        try:
            task()
        except Exception as error:
            logger.exception("task.failed task=%s", task.__name__)
            failure = describe_kind(error)
        # What its threads have in hand would begin from nothing in another worker, and perhaps never come to its end.
        _LIFE.count_task(is_needed=bool(_BACKGROUND.busy))
        # Raised outside the except block: its context would bring the error's text back.
        if failure:
            raise TaskFailed(failure)

    return run


@_quiet
def drain() -> None:
    """Carry out waiting requests. Notifies another worker at a backlog, and once more if it leaves work behind."""
    if worker.drain(on_backlog=notify.notify_workers, background=_BACKGROUND):
        notify.notify_workers()


@_quiet
def sweep() -> None:
    """Run every minute: what is due by time, and a nudge in case one was lost."""
    worker.sweep(_BACKGROUND)
    occurrences.note(occurrences.Name.SWEEP)
    if leases.is_due():
        notify.enqueue_callbacks()
    if settings.MAILS:
        notify.enqueue_emails()
    if worker.drain(on_backlog=notify.notify_workers, background=_BACKGROUND):
        notify.notify_workers()


@_quiet
def deliver_callbacks() -> None:
    """Send callbacks that are due. Calls for another turn if it leaves some behind."""
    if dispatcher.deliver():
        notify.enqueue_callbacks()


@_quiet
def send_mails() -> None:
    """Tell officers by mail of what is new. Calls for another turn if it leaves some behind."""
    if mails.deliver():
        notify.enqueue_emails()
