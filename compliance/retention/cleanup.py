"""Erase late data of completed deletions, and remove what has expired.

A late document of an erased chatter may name a stored conversation. Intake then marks that conversation for the
completed deletion, and the next sweep erases it here.
"""

import logging
import random
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import timedelta
from itertools import chain
from typing import Any, TypeVar
from uuid import UUID

from django.db import DatabaseError, transaction
from django.db.models import Model, Q, QuerySet
from django.db.models.functions import Now
from django.utils import timezone

from chatbots.buckets import hosted_storage
from chatbots.models import SilentStorage
from common.db import array, fetch
from common.isolation import Isolation
from common.logs import describe_kind
from common.storage import OpenUpload, StorageError
from compliance.erasure import exports, objects, rows
from compliance.errors import StepFailed
from compliance.ledger import journal, lines
from compliance.ledger import objects as ledger_objects
from compliance.models import ComplianceRequest, Export, ExportFile
from compliance.reconciliation.scan import stale_uploads
from compliance.retention.rules import FORGETTING
from compliance.storage_locations import CLIENT, HOSTED, RecordedLocation, storage_of
from compliance.work.outbox import log
from compliance.work.transitions import completion
from conversations import machines
from conversations.extracts import leases
from conversations.models import DailyExtract, UploadedFile
from conversations.placement import by_place

logger = logging.getLogger(__name__)

_T = TypeVar("_T")
_Row = TypeVar("_Row", bound=Model)

_Status = ComplianceRequest.Status
_GIVEN_UP = (_Status.FAILED, _Status.CANCELLED, _Status.REJECTED)

# Rows removed by one statement, and how long each task may take in a sweep; the next one goes on.
_BATCH = 10_000
_ROWS_PER_PAGE = 500
_SECONDS_PER_TASK = 10.0
_UPLOAD_ABANDONED = timedelta(days=1)
_UPLOAD_FORGOTTEN = timedelta(hours=1)
# The wait before the storage is asked again to remove an extract that it refused to.
_REFUSED_AGAIN = timedelta(hours=1)

# An array, since PostgreSQL expects thousands of marked conversations, where there are hardly any, and would join by
# reading all requests.
_LATE = """
WITH late AS MATERIALIZED ({found})
SELECT id, chatbot_id FROM compliance_compliancerequest
 WHERE status = 'completed' AND id = ANY(ARRAY(SELECT deletion_request_id FROM late))
   AND id <> ALL(%(postponed)s::uuid[])
 ORDER BY hashtextextended(id::text, %(order)s) LIMIT %(most)s
"""
_LATE_ROWS = """
SELECT DISTINCT deletion_request_id FROM conversations_conversation AS c
 WHERE deletion_request_id IS NOT NULL AND deleted_at IS NULL AND c.{answering}
"""
_LATE_FILES = """
SELECT DISTINCT c.deletion_request_id
  FROM conversations_uploadedfile f
  JOIN conversations_conversation c ON c.id = f.conversation_id AND c.chatbot_id = f.chatbot_id
 WHERE f.state = 'removing' AND c.deleted_at IS NOT NULL AND c.{answering}
"""
_LATE_AT_ONCE = 100


class CleanupRun:
    """One removal of expired data: `seconds` limits each task, `progress` is called with each number removed."""

    def __init__(self, *, seconds: float | None = None, progress: Callable[[int], object] | None = None) -> None:
        self.removed: Counter[str] = Counter()
        self.refused: Counter[str] = Counter()
        self._seconds = seconds
        self._progress = progress

    def while_time_is_left(self, things: Iterable[_T]) -> Iterator[_T]:
        """Yield things until the task's time is over: a storage that does not answer must not block a worker."""
        end = None if self._seconds is None else time.monotonic() + self._seconds
        for thing in things:
            yield thing
            if end is not None and time.monotonic() > end:
                return

    def note_removed(self, store: str, count: int = 1) -> None:
        self.removed[store] += count
        if self._progress:
            self._progress(count)

    def purge(self, key: str, where: RecordedLocation | None = None) -> bool:
        """Purge an object, by default hosted. Return False if that fails: its row must stay for the next run."""
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
    """Erase conversations that were marked after their deletion completed, in chunks, and then their files.

    Exports of others that hold one, and those in clients' buckets, are removed when they expire; the deletion names
    them. What cannot be erased now is left to the next call. Where there is much of that, this ends before all was
    tried, and the next call begins with others. Raises SomeFailed after all chatbots.
    """
    with Isolation() as steps:
        for found, erase in ((_LATE_ROWS, _erase_late_rows), (_LATE_FILES, _erase_late_files)):
            with steps.part(erase.__name__), Isolation() as isolated:
                _erase_late(isolated, found, erase)


def _erase_late(
    isolated: Isolation, found: str, erase: Callable[[list[UUID], Mapping[UUID, int]], set[UUID]]
) -> None:
    late = _LATE.format(found=found.format(answering=machines.on_answering()))
    # The order is another one in each call.
    values = {"order": random.getrandbits(32), "most": _LATE_AT_ONCE}
    postponed: set[UUID] = set()
    end = time.monotonic() + _SECONDS_PER_TASK
    chatbots: dict[UUID, int] = {}

    def erase_some(request_ids: list[UUID]) -> set[UUID]:
        """Return the requests that did not fail, and need not wait."""
        try:
            return set(request_ids) - erase(request_ids, chatbots)
        except DatabaseError as error:
            if not machines.has_failed(error):
                raise
            logger.warning("late_data.postponed %s", describe_kind(error))
            return set()

    while not (postponed and time.monotonic() > end):
        chatbots = dict(fetch(late, {**values, "postponed": array(postponed)}))
        if not chatbots:
            return
        for request_ids in by_place(chatbots):
            erased = isolated.by_chatbot({one: chatbots[one] for one in request_ids}, erase_some)
            postponed.update(set(request_ids).difference(*erased))


def _erase_late_rows(request_ids: list[UUID], chatbots: Mapping[UUID, int]) -> set[UUID]:
    """Erase one chunk of these deletions, whose chatbots live in one place; return those that have to wait."""
    try:
        # Anew, with the late conversations. A restored machine of Citus can make those of a retention run late.
        written = journal.conclude({**lines.exact(request_ids), **lines.retention(request_ids)})
    except StepFailed as failure:
        logger.warning("late_data.postponed code=%s", failure.code)
        return set(request_ids)
    with transaction.atomic():
        written.confirm()
        counts = rows.erase_marked_chunk(request_ids)
        if not counts:
            return set(request_ids)  # somebody has locked what is left
        completion.add_late_counts(counts)
        exports.leave(list(counts))
        log(
            "request.late_data_erased",
            [
                (request_id, chatbots[request_id], {name: count[name] for name in ("conversations", "messages")})
                for request_id, count in counts.items()
            ],
        )
    # What this leaves of them has expired: the sweep removes it.
    objects.erase_exports(transaction.atomic, list(counts), at_clients=False)
    return set()


def _erase_late_files(request_ids: list[UUID], _chatbots: Mapping[UUID, int]) -> set[UUID]:
    """Erase the files of these deletions, whose chatbots live in one place; return those that have to wait."""
    failures = objects.erase_late_files(request_ids)
    if failures:
        logger.warning("late_data.postponed requests=%s", ",".join(map(str, failures)))
    return set(failures)


def remove_expired(run: CleanupRun | None = None, *, at_clients: bool = True) -> CleanupRun:
    """Remove what has expired: exports, extracts, unfinished uploads, ledger objects, and rows by FORGETTING.

    Without `run`, a limited share, as the sweep does. Without `at_clients`, nothing in clients' buckets. Returns the
    run. Raises SomeFailed after all was tried.
    """
    run = run or CleanupRun(seconds=_SECONDS_PER_TASK)
    with Isolation() as isolated:
        with isolated.part("exports"):
            _remove_exports(run, hosting=HOSTED)
        with isolated.part("exports_at_clients"), Isolation() as clients:
            for chatbot_id in clients_to_clean_up() if at_clients else ():
                with clients.chatbot(chatbot_id):
                    _remove_exports(run, hosting=CLIENT, chatbot=chatbot_id)
        for remove in (_remove_expired_extracts, _remove_abandoned_uploads, _remove_objects_without_rows):
            with isolated.part(remove.__name__):
                remove(run)
        for store, rule in FORGETTING.items():
            with isolated.part(store):
                for count in run.while_time_is_left(rule.forget(most=_BATCH)):
                    run.note_removed(store, count)
    return run


def count_expired() -> dict[str, int]:
    """Count per store what `remove_expired` would remove. Raises StorageError."""
    return {
        "exports": expired_exports().count() + given_up_exports().count(),
        "extracts": DailyExtract.objects.filter(expires_at__lt=Now(), key__isnull=False, hosting=HOSTED).count(),
        "abandoned_uploads": abandoned_uploads().count(),
        "forgotten_uploads": sum(1 for _ in forgotten_uploads()),
        "ledger_objects": sum(1 for _ in ledger_objects.expired_keys()),
        **{store: rule.count() for store, rule in FORGETTING.items()},
    }


def expired_exports() -> QuerySet[Export]:
    """Return expired exports whose object is not removed yet."""
    return Export.objects.filter(expires_at__lt=Now(), key__isnull=False)


def given_up_exports() -> QuerySet[Export]:
    """Return unfinished exports of requests that ended, which may have left something under their key."""
    return Export.objects.filter(finished_at__isnull=True, request__status__in=_GIVEN_UP, key__isnull=False)


def abandoned_uploads() -> QuerySet[UploadedFile]:
    return UploadedFile.objects.filter(state=UploadedFile.State.UPLOADING, created_at__lt=Now() - _UPLOAD_ABANDONED)


def forgotten_uploads() -> Iterator[OpenUpload]:
    """Yield open uploads in the hosted bucket that no row names any more. Raises StorageError.

    A worker can be killed right after opening one, just when an erasure has deleted its row: nothing was sent, but
    the key or the file's name identify the chatter.
    """
    for upload, _, _ in stale_uploads(hosted_storage()):
        if upload.begun_at < timezone.now() - _UPLOAD_FORGOTTEN:
            yield upload


def clients_to_clean_up() -> list[int]:
    """Return the chatbots with something to remove in their client's bucket, unless that is resting."""
    found = {export.chatbot_id for exports, order in _removable(hosting=CLIENT) for export in _each(exports, order)}
    resting = SilentStorage.objects.filter(chatbot__in=found, rests_until__gt=Now())
    return sorted(found - set(resting.values_list("chatbot_id", flat=True)))


def remove_at_client(chatbot_id: int) -> None:
    """Remove expired and given-up exports from the bucket of a chatbot's client."""
    _remove_exports(CleanupRun(seconds=_SECONDS_PER_TASK), hosting=CLIENT, chatbot=chatbot_id)


def _removable(**where: Any) -> list[tuple[QuerySet[Export], str]]:
    """Return exports to remove, with the order of an index that holds them."""
    return [(expired_exports().filter(**where), "expires_at"), (given_up_exports().filter(**where), "pk")]


def _remove_exports(run: CleanupRun, **which: Any) -> None:
    """After a client's bucket refuses or does not answer, or an error, nothing more is tried there."""
    refusing: set[RecordedLocation] = set()
    with Isolation() as isolated:
        for export in chain.from_iterable(run.while_time_is_left(_each(*each)) for each in _removable(**which)):
            where = RecordedLocation(export.chatbot_id, export.hosting, export.bucket, export.endpoint)
            if where in refusing:
                continue
            is_removed: bool | None = None
            with isolated.chatbot(export.chatbot_id):
                is_removed = _removed(run, export, where)
            if is_removed:
                run.note_removed("exports")
            elif is_removed is None or where.hosting == CLIENT:
                refusing.add(where)


def _removed(run: CleanupRun, export: Export, where: RecordedLocation) -> bool:
    """Remove an export and its copies of files; return whether nothing is left to remove."""
    with transaction.atomic():
        objects.forget_out_of_reach([export.pk])
    if not Export.objects.filter(pk=export.pk, key=export.key).exists():
        return True
    for failure in objects.erase_expired_copies([export.request_id]).values():
        run.refuse(failure)
        return False
    if ExportFile.objects.filter(export=export.pk).exists():
        return True  # retried meanwhile, which removes what was left before
    if not run.purge(str(export.key), where):
        return False
    with transaction.atomic():
        # Unless a retry has taken another key meanwhile.
        objects.forget_exports([(export.pk, str(export.key))], [export.chatbot_id])
    return True


def _remove_expired_extracts(run: CleanupRun) -> None:
    """Take each first, so that no worker rebuilds it meanwhile."""
    with Isolation() as isolated:
        for held in run.while_time_is_left(iter(leases.take_expired, None)):
            with isolated.chatbot(held.chatbot_id):
                try:
                    hosted_storage().purge(str(held.key))
                except StorageError as error:
                    run.refuse(error)
                    leases.refuse(held, error.code, error.detail, retryable=error.retryable, wait=_REFUSED_AGAIN)
                else:
                    leases.expire(held)
                    run.note_removed("extracts")


def _remove_abandoned_uploads(run: CleanupRun) -> None:
    """Take the row, so that the upload can no longer finish; remove its object; delete the row."""
    uploads, chatbots = abandoned_uploads(), machines.answering()
    if chatbots is not None:
        uploads = uploads.filter(chatbot__in=chatbots)
    with Isolation() as isolated:
        for upload in run.while_time_is_left(_each(uploads, "created_at")):
            this = {"pk": upload.pk, "chatbot": upload.chatbot_id}
            with isolated.chatbot(upload.chatbot_id):
                is_taken = abandoned_uploads().filter(**this).update(upload_id=None)
                if is_taken and run.purge(upload.object_key):
                    UploadedFile.objects.filter(**this, state=UploadedFile.State.UPLOADING).delete()
                    run.note_removed("abandoned_uploads")


def _remove_objects_without_rows(run: CleanupRun) -> None:
    try:
        # A silent machine does not say which of them have rows.
        uploads = () if machines.any_silent() else forgotten_uploads()
        for upload in run.while_time_is_left(uploads):
            hosted_storage().abort(upload.key, upload.upload_id)
            run.note_removed("forgotten_uploads")
    except StorageError as error:
        run.refuse(error)
    try:
        for key in run.while_time_is_left(ledger_objects.expired_keys()):
            if run.purge(key):
                run.note_removed("ledger_objects")
    except StorageError as error:
        run.refuse(error)


def _each(rows: "QuerySet[_Row]", order: str) -> Iterator[_Row]:
    """Yield all rows once, in pages, so that rows which storage refuses do not block the others."""
    page = list(rows.order_by(order, "pk")[:_ROWS_PER_PAGE])
    while page:
        yield from page
        value, pk = getattr(page[-1], order), page[-1].pk
        # The first condition alone can use an index.
        is_after = Q(**{f"{order}__gte": value}) & (Q(**{f"{order}__gt": value}) | Q(pk__gt=pk))
        page = list(rows.filter(is_after).order_by(order, "pk")[:_ROWS_PER_PAGE])
