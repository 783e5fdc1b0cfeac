"""What comes after completion: data that arrived late, and digests, files and rows whose time is over.

A late document of an erased chatter may name a conversation that is stored already; intake then marks that
conversation with the erasure's request, and the next sweep erases it here.
"""

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from datetime import timedelta
from itertools import repeat
from typing import Any, TypeVar
from uuid import UUID

from django.db import connection, transaction
from django.db.models import Model, Q, QuerySet
from django.db.models.functions import Now
from django.utils import timezone

from chatbots import changelog
from chatbots.buckets import hosted_storage
from chatbots.models import SilentStorage
from common.db import fetch
from common.storage import OpenUpload, StorageError
from compliance.erasure import ledger, objects, rows
from compliance.errors import StepFailed
from compliance.models import ComplianceRequest, Export, ExportFile
from compliance.reconciliation.scan import stale_uploads
from compliance.retention.rules import FORGETTING, periods
from compliance.storage_locations import CLIENT, HOSTED, RecordedLocation, storage_of
from compliance.work import transitions
from conversations.extracts import leases
from conversations.models import DailyExtract, UploadedFile

logger = logging.getLogger(__name__)

_T = TypeVar("_T")
_Row = TypeVar("_Row", bound=Model)

_Status = ComplianceRequest.Status
_GIVEN_UP = (_Status.FAILED, _Status.CANCELLED, _Status.REJECTED)

# Rows removed by one statement, and how long each of these tasks may take: what is left waits for the next sweep.
_BATCH = 10_000
_ROWS_PER_PAGE = 500
_SECONDS_PER_TASK = 10.0
_UPLOAD_ABANDONED = timedelta(days=1)
_UPLOAD_FORGOTTEN = timedelta(hours=1)
# When the storage is asked again to remove an extract that it did not.
_REFUSED_AGAIN = timedelta(hours=1)

# Hardly any conversation is marked and not erased, but PostgreSQL multiplies the two shares and expects thousands:
# joined, all requests would be read. It expects an array to be short. The same below.
_LATE = """
SELECT id FROM compliance_compliancerequest
 WHERE status = 'completed'
   AND id = ANY(ARRAY(SELECT DISTINCT deletion_request_id FROM conversations_conversation
                       WHERE deletion_request_id IS NOT NULL AND deleted_at IS NULL))
 LIMIT 100
"""


class CleanupRun:
    """One removal of what has expired: how long each of its tasks may take, what went, what storage refused.

    Without a time it goes to the end. `tell` is called with how many have gone just now.
    """

    def __init__(self, *, seconds: float | None = None, tell: Callable[[int], object] | None = None) -> None:
        self.removed: Counter[str] = Counter()
        self.refused: Counter[str] = Counter()
        self._seconds = seconds
        self._tell = tell

    def while_time_is_left(self, things: Iterable[_T]) -> Iterator[_T]:
        """Yield things until the time of a task is over: a storage that does not answer must not hold a worker."""
        end = None if self._seconds is None else time.monotonic() + self._seconds
        for thing in things:
            yield thing
            if end is not None and time.monotonic() > end:
                return

    def note_removed(self, store: str, count: int = 1) -> None:
        self.removed[store] += count
        if self._tell:
            self._tell(count)

    def purge(self, key: str, where: RecordedLocation | None = None) -> bool:
        """Purge an object, hosted unless told; where storage refuses, its row stays, so the next run tries again."""
        try:
            (storage_of(where) if where else hosted_storage()).purge(key)
        except (StorageError, StepFailed) as error:
            self.refuse(error)
            return False
        return True

    def refuse(self, error: StorageError | StepFailed) -> None:
        self.refused[error.code] += 1
        logger.warning("expired_object.not_removed code=%s", error.code)


def erase_late_data() -> None:
    """Erase marked conversations whose deletion has completed already, in chunks.

    Objects first: as long as a conversation is not erased, the next sweep finds it again. The exports of others that
    hold one go with what has expired, and so do those in clients' buckets.
    """
    while request_ids := _requests_with_late_data():
        failures = objects.erase_files(transaction.atomic, request_ids)
        request_ids = [request_id for request_id in request_ids if request_id not in failures]
        failures |= objects.erase_exports(transaction.atomic, request_ids, at_clients=False)
        request_ids = [request_id for request_id in request_ids if request_id not in failures]
        if failures:
            logger.warning("late_data.postponed requests=%s", ",".join(map(str, failures)))
        if not request_ids or not _in_ledger(request_ids):
            return
        with transaction.atomic():
            counts = rows.erase_marked_chunk(request_ids)
            transitions.add_late_counts(counts)
            _record(counts)
        if not counts:
            return


def remove_expired(run: CleanupRun | None = None, *, at_clients: bool = True) -> CleanupRun:
    """Remove what was kept for a time: exports, extracts, unfinished uploads, variables' values, digests, calls,
    callbacks, log-ins.

    By default a bounded share of it, as the sweep does. Without `at_clients` nothing in clients' buckets: see
    `remove_at_client`. Returns the run.
    """
    run = run or CleanupRun(seconds=_SECONDS_PER_TASK)
    _remove_exports(run, expired_exports().filter(hosting=HOSTED), "expires_at")
    _remove_exports(run, given_up_exports().filter(hosting=HOSTED), "pk")
    if at_clients:
        for chatbot_id in clients_to_clean_up():
            remove_at_client(chatbot_id, run)
    _remove_expired_extracts(run)
    _remove_abandoned_uploads(run)
    _abort_forgotten_uploads(run)
    _remove_expired_ledger(run)
    for store, (_, statement) in FORGETTING.items():
        _in_batches(run, store, statement)
    return run


def count_expired() -> dict[str, int]:
    """Count, store by store, what `remove_expired` would remove by now. Raises StorageError."""
    counts = {
        "exports": expired_exports().count() + given_up_exports().count(),
        "extracts": expired_extracts().count(),
        "abandoned_uploads": abandoned_uploads().count(),
        "forgotten_uploads": sum(1 for _ in forgotten_uploads()),
        "ledger_objects": sum(1 for _ in ledger.expired_keys()),
    }
    with connection.cursor() as cursor:
        for store, (old, _) in FORGETTING.items():
            cursor.execute(f"SELECT count(*) {old}", periods())
            [(counts[store],)] = cursor.fetchall()
    return counts


def _in_batches(run: CleanupRun, store: str, statement: str) -> None:
    with connection.cursor() as cursor:
        for _ in run.while_time_is_left(repeat(None)):
            cursor.execute(statement, {**periods(), "batch": _BATCH})
            run.note_removed(store, cursor.rowcount)
            if cursor.rowcount < _BATCH:
                return


def _requests_with_late_data() -> list[UUID]:
    return [row[0] for row in fetch(_LATE)]


def _in_ledger(request_ids: list[UUID]) -> bool:
    """Write the ledger anew, with the late conversations, before they are erased."""
    try:
        ledger.write(list(ledger.read(request_ids).values()))
    except StepFailed as failure:
        logger.warning("late_data.postponed code=%s", failure.code)
        return False
    return True


def _record(counts: dict[UUID, transitions.Counts]) -> None:
    chatbots = dict(ComplianceRequest.objects.filter(pk__in=counts).values_list("pk", "chatbot_id"))
    changelog.record_all(
        [
            changelog.entry(
                "request.late_data_erased",
                chatbot_id=chatbots[request_id],
                request_id=request_id,
                actor="worker",
                data={"conversations": count["conversations"], "messages": count["messages"]},
            )
            for request_id, count in counts.items()
        ]
    )


def expired_exports() -> QuerySet[Export]:
    """Return the exports whose days are over, and whose object is not removed yet."""
    return Export.objects.filter(expires_at__lt=Now(), key__isnull=False)


def given_up_exports() -> QuerySet[Export]:
    """Return the exports that were given up, and that may have left something under their key."""
    return Export.objects.filter(finished_at__isnull=True, request__status__in=_GIVEN_UP, key__isnull=False)


def expired_extracts() -> QuerySet[DailyExtract]:
    """Return the hosted extracts whose days are over, and whose object is not removed yet."""
    return DailyExtract.objects.filter(expires_at__lt=Now(), key__isnull=False, hosting=HOSTED)


def abandoned_uploads() -> QuerySet[UploadedFile]:
    """Return the uploads that were begun long ago and never finished."""
    return UploadedFile.objects.filter(state=UploadedFile.State.UPLOADING, created_at__lt=Now() - _UPLOAD_ABANDONED)


def forgotten_uploads() -> Iterator[OpenUpload]:
    """Yield the open uploads in the hosted bucket that nobody will complete. Raises StorageError.

    As of a worker that was killed right after it had opened one for which an erasure had just looked: the row is
    gone, nothing was sent, but the key or the file's name say who it was.
    """
    for upload, _, _ in stale_uploads(hosted_storage()):
        if upload.begun_at < timezone.now() - _UPLOAD_FORGOTTEN:
            yield upload


def clients_to_clean_up() -> list[int]:
    """Return the chatbots in whose clients' buckets something is left to be removed, if not left alone just now."""
    found = {
        export.chatbot_id
        for exports, order in ((expired_exports(), "expires_at"), (given_up_exports(), "pk"))
        for export in _each(exports.filter(hosting=CLIENT), order)
    }
    resting = SilentStorage.objects.filter(chatbot__in=found, rests_until__gt=Now())
    return sorted(found - set(resting.values_list("chatbot_id", flat=True)))


def remove_at_client(chatbot_id: int, run: CleanupRun | None = None) -> CleanupRun:
    """Remove what attempts before have left in the bucket of a chatbot's client. Returns the run.

    Of a bucket that refuses or does not answer nothing more is tried.
    """
    run = run or CleanupRun(seconds=_SECONDS_PER_TASK)
    for exports, order in ((expired_exports(), "expires_at"), (given_up_exports(), "pk")):
        _remove_exports(run, exports.filter(hosting=CLIENT, chatbot=chatbot_id), order)
    return run


def _remove_exports(run: CleanupRun, exports: QuerySet[Export], order: str) -> None:
    """In the order of the index that has them, or all exports would be read to sort them."""
    refusing: set[RecordedLocation] = set()
    for export in run.while_time_is_left(_each(exports, order)):
        where = RecordedLocation(export.chatbot_id, export.hosting, export.bucket, export.endpoint)
        if where in refusing:
            continue
        if _removed(run, export, where):
            run.note_removed("exports")
        elif where.hosting == CLIENT:
            refusing.add(where)


def _removed(run: CleanupRun, export: Export, where: RecordedLocation) -> bool:
    """Remove an export with the copies beside it; return whether nothing of it is left to be removed."""
    with transaction.atomic():
        objects.forget_out_of_reach([export.pk])
    if not Export.objects.filter(pk=export.pk, key=export.key).exists():
        return True
    for failure in objects.erase_expired_copies([export.request_id]).values():
        run.refuse(failure)
        return False
    if ExportFile.objects.filter(export=export.pk).exists():
        return True  # a retry was asked for meanwhile, and removes what was left before
    if not run.purge(str(export.key), where):
        return False
    with transaction.atomic():
        # Not if a retry has taken another key meanwhile.
        objects.forget_exports([(export.pk, str(export.key))])
    return True


def _remove_expired_extracts(run: CleanupRun) -> None:
    """Each is taken first, so that nobody makes it again meanwhile."""
    for held in run.while_time_is_left(iter(leases.take_expired, None)):
        try:
            hosted_storage().purge(str(held.key))
        except StorageError as error:
            run.refuse(error)
            held.refuse(error.code, error.detail, retryable=error.retryable, wait=_REFUSED_AGAIN)
        else:
            held.expire()
            run.note_removed("extracts")


def _remove_abandoned_uploads(run: CleanupRun) -> None:
    """Take the row, so that the upload cannot be finalised any more; remove what storage has; then the row goes."""
    for upload in run.while_time_is_left(_each(abandoned_uploads(), "created_at")):
        is_taken = abandoned_uploads().filter(pk=upload.pk).update(upload_id=None)
        if is_taken and run.purge(upload.object_key):
            UploadedFile.objects.filter(pk=upload.pk, state=UploadedFile.State.UPLOADING).delete()
            run.note_removed("abandoned_uploads")


def _abort_forgotten_uploads(run: CleanupRun) -> None:
    try:
        for upload in run.while_time_is_left(forgotten_uploads()):
            hosted_storage().abort(upload.key, upload.upload_id)
            run.note_removed("forgotten_uploads")
    except StorageError as error:
        run.refuse(error)


def _remove_expired_ledger(run: CleanupRun) -> None:
    try:
        for key in run.while_time_is_left(ledger.expired_keys()):
            if run.purge(key):
                run.note_removed("ledger_objects")
    except StorageError as error:
        run.refuse(error)


def _each(rows: "QuerySet[_Row]", order: str) -> Iterator[_Row]:
    """Yield all rows, in pages, each once: those that storage refuses do not stand in the way of the others."""
    after: tuple[Any, int] | None = None
    while True:
        page = rows if after is None else rows.filter(_is_after(order, *after))
        found = list(page.order_by(*dict.fromkeys((order, "pk")))[:_ROWS_PER_PAGE])
        yield from found
        if len(found) < _ROWS_PER_PAGE:
            return
        after = (getattr(found[-1], order), found[-1].pk)


def _is_after(order: str, value: Any, pk: int) -> Q:
    # The first condition alone can use an index.
    return Q(**{f"{order}__gte": value}) & (Q(**{f"{order}__gt": value}) | Q(pk__gt=pk))
