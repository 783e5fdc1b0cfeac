"""The tasks that workers run, and the duties of a cluster's guard.

Tasks take no arguments and return nothing: a task's row contains no data.
"""

from django.conf import settings

from common.isolation import Isolation
from compliance import worker
from compliance.callbacks.queue import Callbacks
from compliance.canary import turns as canary
from compliance.cluster import notify, occurrences
from compliance.cluster.background import JOBS
from compliance.cluster.broker import task
from compliance.cluster.supervision import Duties
from compliance.ledger import tripwire
from compliance.lookups.queue import Lookups
from compliance.notifications import delivery as mails
from compliance.work import bucket_checks, claims, dispatcher, health, lookups
from conversations.extracts import leases
from conversations.placement import machines


@task
def drain() -> None:
    """Do waiting work. Notifies another worker of a backlog, and of remaining work."""
    if worker.drain(on_backlog=notify.notify_workers, background=JOBS):
        notify.notify_workers()


@task
def sweep() -> None:
    """Do the work that is due by time, and the work of lost tasks. Runs every minute."""
    with Isolation() as isolated:
        with isolated.part("sweep"):
            worker.sweep(JOBS)
            occurrences.note(occurrences.Name.SWEEP)
        if Callbacks().due_chatbots() or lookups.is_any_due():
            notify.enqueue_callbacks()
        if settings.MAILS:
            notify.enqueue("send_mails")
        if worker.drain(on_backlog=notify.notify_workers, background=JOBS):
            notify.notify_workers()
        # Last: requests do not wait for it.
        with isolated.part("canary"):
            if settings.CANARY_URL and tripwire.check_if_due():
                canary.advance()


@task
def deliver_callbacks() -> None:
    """Send due callbacks and make due look-ups, in one turn. Enqueues another if some are left."""
    if tripwire.check_if_due() and dispatcher.run([Callbacks(), Lookups()], seconds=dispatcher.TURN_SECONDS):
        notify.enqueue_callbacks()


@task
def send_mails() -> None:
    """Mail notifications to officers. Enqueues another turn if some are left."""
    if tripwire.check_if_due() and mails.deliver():
        notify.enqueue("send_mails")


def requeue_from_cluster(name: str, blamed: str | None) -> bool:
    """Requeue the work of a dead cluster. Only the work of the `blamed` worker loses an attempt."""
    leases.requeue_from_cluster(name, blamed=blamed)
    bucket_checks.requeue_from_cluster(name)
    return claims.requeue_from_cluster(name, blamed=blamed)


def enqueue_due_work() -> None:
    """Insert tasks for due work: some may have been lost, with their process or because the database failed."""
    if health.is_anything_due() or bucket_checks.is_any_waiting():
        notify.notify_workers()
    notify.enqueue_sweep()
    # Intake queues look-ups without a task. Late, and not of a silent machine of Citus, where this would fail.
    machines.ask_if_due()
    if lookups.is_any_due():
        notify.enqueue_callbacks()


def enqueue_due_journal() -> None:
    if health.is_journal_due():
        notify.notify_workers()


DUTIES = Duties(requeue_from_cluster, worker.requeue_expired, enqueue_due_work, enqueue_due_journal)
