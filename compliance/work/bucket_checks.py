"""Checks of buckets by workers: on a user's request in the console, and of the hosted bucket by the sweep.

A user's check is a row that a worker leases, and to which it adds the result of each step. So no page waits for a
bucket, and a bucket has one check at a time. Commands check in their own process
(`chatbots.operations.buckets.check_bucket`).
"""

import logging
from collections.abc import Collection
from contextlib import suppress

from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models.functions import Now

from chatbots.buckets import Step
from chatbots.buckets.locations import hosted_storage, require_bucket
from chatbots.buckets.probe import WORKERS_KEY as KEY
from chatbots.models import BucketCheck, Chatbot
from chatbots.operations.buckets import check_bucket
from common import leases, outbound, proc
from common.storage import StorageError
from compliance.cluster import notify, occurrences

logger = logging.getLogger(__name__)

# The interval of checks of the hosted bucket.
_EVERY_SECONDS = 300
_SECONDS = 10.0
_MISSING = occurrences.Name.BUCKET_MISSING


@transaction.atomic
def enqueue(*, chatbot: Chatbot) -> None:
    """Have a worker check the chatbot's bucket, unless one is pending. Raises ValidationError without a bucket."""
    require_bucket(chatbot)
    BucketCheck.objects.filter(chatbot=chatbot, finished_at__isnull=False).delete()
    BucketCheck.objects.bulk_create([BucketCheck(chatbot=chatbot)], ignore_conflicts=True)
    notify.after_commit(notify.notify_workers)


def last(chatbot: Chatbot) -> BucketCheck | None:
    return BucketCheck.objects.filter(chatbot=chatbot).first()


def take_next(busy: Collection[int] = ()) -> BucketCheck | None:
    """Lease the check that has waited longest, except for chatbots in `busy`. A lost check starts over."""
    waiting = BucketCheck.objects.filter(finished_at=None).exclude(chatbot__in=busy).order_by("asked_at")
    return leases.take(waiting, owner=proc.owner(), steps=[])


def run(check: BucketCheck) -> None:
    """Run a leased check, and write the result of each step at once. Call it outside any transaction.

    A check that loses its lease continues, to remove its test object, and writes nothing more.
    """

    def add(step: Step) -> None:
        result = {
            "name": step.name,
            "permission": step.permission,
            "code": step.error.code if step.error else "",
            "detail": step.error.detail if step.error else "",
        }
        check.steps = [*check.steps, result]
        with suppress(leases.LeaseLost):
            check.write(steps=check.steps)

    try:
        error = check_bucket(chatbot=Chatbot.objects.get(pk=check.chatbot_id), on_step=add).error
    except ValidationError as removed:  # the bucket was removed meanwhile
        error = " ".join(removed.messages)
    check.release(finished_at=Now(), error=error[:500])


def is_any_waiting() -> bool:
    """Return whether a check waits without a worker."""
    return BucketCheck.objects.filter(finished_at=None, next_attempt_at__lte=Now()).exists()


def requeue_from_cluster(cluster: str) -> None:
    """Let other workers start over the checks of a dead cluster's workers."""
    held = BucketCheck.objects.filter(finished_at=None, owner__startswith=f"{cluster}:")
    held.update(token=None, next_attempt_at=Now())


def check_hosted_if_due() -> None:
    """Write an object to the hosted bucket and remove it: every five minutes, and after a failure at each call.

    So a missing bucket is noticed before a request needs it: `health` reports a failure. A storage that does not
    answer is no failure of this check: it is `storage_silent`. Call it outside any transaction.
    """
    if not occurrences.ask(_MISSING, every=_EVERY_SECONDS):
        return
    storage = hosted_storage()
    try:
        with outbound.within(_SECONDS):
            # Otherwise each trial would leave another version in a bucket that keeps versions and refuses their
            # removal.
            storage.purge(KEY)
            storage.put(KEY, b"A check whether the service may write here.", "text/plain")
            storage.purge(KEY)
    except StorageError as error:
        occurrences.release(_MISSING)
        if not error.retryable:
            logger.warning("hosted_bucket.refused code=%s", error.code)
            occurrences.note(_MISSING)
    else:
        occurrences.forget(_MISSING)
