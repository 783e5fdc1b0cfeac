"""Objects in storage whose time is over: exports, daily extracts, uploads that broke off, objects of the ledger."""

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import chain
from typing import Any, TypeVar
from uuid import UUID

from django.db.models import Q, QuerySet
from django.db.models.functions import Now
from django.utils import timezone

from chatbots.buckets import hosted_storage
from chatbots.models import SilentStorage
from common.isolation import Isolation
from common.storage import OpenUpload, StorageError
from compliance.erasure import objects
from compliance.errors import StepFailed
from compliance.ledger import objects as ledger_objects
from compliance.models import Export
from compliance.reconciliation.scan import stale_uploads
from compliance.storage_locations import CLIENT, HOSTED, WITHIN_REACH
from conversations.extracts import leases
from conversations.models import UploadedFile
from conversations.placement import by_place, machines

logger = logging.getLogger(__name__)

_T = TypeVar("_T")

# The days of an export are over.
EXPIRED = Q(expires_at__lt=Now(), key__isnull=False)
# The export is unfinished, its request has ended, and may have left an object under its key.
GIVEN_UP = Q(finished_at__isnull=True, request__status__in=("failed", "cancelled", "rejected"), key__isnull=False)

# How long each task may take in a sweep; the next sweep continues.
_SECONDS_PER_TASK = 10.0
_PER_PAGE = 25
_UPLOAD_ABANDONED = timedelta(days=1)
_UPLOAD_FORGOTTEN = timedelta(hours=1)
# The wait before the storage is called again to remove an extract that it refused to remove.
_REFUSED_AGAIN = timedelta(hours=1)


@dataclass(kw_only=True)
class Cleanup:
    """One removal of expired data.

    Without `is_whole` each task has its share of time. Without `at_clients` nothing is removed from clients' buckets.
    `progress` is called with each number removed.
    """

    is_whole: bool = False
    at_clients: bool = True
    progress: Callable[[int], object] = lambda _: None
    removed: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)

    def until_deadline(self, things: Iterable[_T]) -> Iterator[_T]:
        """Yield things until the task's time is over: a storage that does not answer must not block a worker."""
        end = time.monotonic() + _SECONDS_PER_TASK
        for thing in things:
            yield thing
            if not self.is_whole and time.monotonic() > end:
                return

    def purge(self, key: str) -> bool:
        """Purge a hosted object. Return False if that fails: its row must stay for the next run."""
        try:
            hosted_storage().purge(key)
        except StorageError as error:
            self.refuse(error)
            return False
        return True

    def refuse(self, error: StorageError | StepFailed) -> None:
        self.refused[error.code] += 1
        logger.warning("expired_object.not_removed code=%s", error.code)


def pages(rows: QuerySet[Any], *, at: str, key: str = "pk", most: int) -> Iterator[list[Any]]:
    """Yield all rows once, by time and key, so that rows that cannot be removed now do not block the others."""
    found = list(rows.order_by(at, key)[:most])
    while found:
        yield found
        last_at, last = getattr(found[-1], at), getattr(found[-1], key)
        # The first condition alone can use an index.
        is_after = Q(**{f"{at}__gte": last_at}) & (Q(**{f"{at}__gt": last_at}) | Q(**{f"{key}__gt": last}))
        found = list(rows.filter(is_after).order_by(at, key)[:most]) if len(found) == most else []


def exports() -> QuerySet[Export]:
    """Return the exports that have to go, and whose objects are not removed yet.

    What lies in a client's former bucket waits: until that bucket is set again, or until a deletion gives it up and
    names it. In the end its key is forgotten (`expiry`).
    """
    return _removable(EXPIRED | GIVEN_UP)


def _removable(over: Q, **which: str | int) -> QuerySet[Export]:
    return Export.objects.filter(over, WITHIN_REACH, **which)


def clients_to_clean_up() -> list[int]:
    """Return the chatbots with something to remove in their client's bucket, unless that is resting."""
    found = {
        chatbot_id
        for which in (EXPIRED, GIVEN_UP)
        for chatbot_id in _removable(which, hosting=CLIENT).values_list("chatbot_id", flat=True)
    }
    resting = SilentStorage.objects.filter(chatbot__in=found, rests_until__gt=Now())
    return sorted(found - set(resting.values_list("chatbot_id", flat=True)))


def remove_at_client(chatbot_id: int) -> None:
    """Remove expired and given-up exports from the bucket of a chatbot's client."""
    sum(_remove_exports(Cleanup(), hosting=CLIENT, chatbot=chatbot_id))


def remove_exports(run: Cleanup) -> Iterator[int]:
    with Isolation() as isolated:
        with isolated.part("exports_hosted"):
            yield from _remove_exports(run, hosting=HOSTED)
        for chatbot_id in clients_to_clean_up() if run.at_clients else ():
            with isolated.chatbot(chatbot_id):
                yield from _remove_exports(run, hosting=CLIENT, chatbot=chatbot_id)


def _remove_exports(run: Cleanup, *, hosting: str, **which: Any) -> Iterator[int]:
    """Remove exports. Stops after a client's bucket refuses or does not answer, or after an error."""

    def erase(request_ids: list[UUID]) -> int:
        failures = objects.erase_expired(request_ids)
        for failure in failures.values():
            run.refuse(failure)
        return len(request_ids) - len(failures)

    with Isolation() as isolated:
        # Each in the order of an index.
        for over, at in ((EXPIRED, "expires_at"), (GIVEN_UP, "pk")):
            found = _removable(over, hosting=hosting, **which)
            for page in run.until_deadline(pages(found, at=at, most=1 if hosting == CLIENT else _PER_PAGE)):
                chatbots = {export.request_id: export.chatbot_id for export in page}
                removed = 0
                for place in by_place(chatbots):
                    removed += sum(isolated.by_chatbot({each: chatbots[each] for each in place}, erase))
                yield removed
                if hosting == CLIENT and removed < len(page):
                    return


def remove_extracts(run: Cleanup) -> Iterator[int]:
    """Remove extracts. Each is leased first, so that no worker rebuilds it meanwhile."""
    with Isolation() as isolated:
        for held in run.until_deadline(iter(leases.take_expired, None)):
            with isolated.chatbot(held.chatbot_id):
                try:
                    hosted_storage().purge(str(held.key))
                except StorageError as error:
                    run.refuse(error)
                    leases.refuse(held, error.code, error.detail, retryable=error.retryable, wait=_REFUSED_AGAIN)
                else:
                    leases.expire(held)
                    yield 1


def abandoned_uploads() -> QuerySet[UploadedFile]:
    """Return uploads that began a day ago and never finished, on the machines that answer."""
    began = Now() - _UPLOAD_ABANDONED
    uploads = UploadedFile.objects.filter(state=UploadedFile.State.UPLOADING, created_at__lt=began)
    return machines.answering(uploads)


def remove_abandoned_uploads(run: Cleanup) -> Iterator[int]:
    """Lease the row, so that the upload can no longer finish; remove its object; delete the row."""
    with Isolation() as isolated:
        for upload in run.until_deadline(
            chain.from_iterable(pages(abandoned_uploads(), at="created_at", most=_PER_PAGE))
        ):
            this = {"pk": upload.pk, "chatbot": upload.chatbot_id}
            with isolated.chatbot(upload.chatbot_id):
                is_taken = abandoned_uploads().filter(**this).update(upload_id=None)
                if is_taken and run.purge(upload.object_key):
                    UploadedFile.objects.filter(**this, state=UploadedFile.State.UPLOADING).delete()
                    yield 1


def forgotten_uploads() -> Iterator[OpenUpload]:
    """Yield open uploads in the hosted bucket without a row. Raises StorageError.

    A worker can be killed right after it has opened one, while an erasure deletes its row: nothing was sent, but the
    key or the file's name identify the chatter.
    """
    # Rows on a silent machine cannot be read, so it is unknown which uploads have one.
    for upload, _, _ in () if machines.any_silent() else stale_uploads(hosted_storage()):
        if upload.begun_at < timezone.now() - _UPLOAD_FORGOTTEN:
            yield upload


def remove_forgotten_uploads(run: Cleanup) -> Iterator[int]:
    for upload in run.until_deadline(forgotten_uploads()):
        hosted_storage().abort(upload.key, upload.upload_id)
        yield 1


def remove_ledger_objects(run: Cleanup) -> Iterator[int]:
    for key in run.until_deadline(ledger_objects.expired_keys()):
        yield int(run.purge(key))
