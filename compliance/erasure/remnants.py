"""What comes after completion: data that arrived late, and digests, files and rows whose time is over.

A late document of an erased chatter may name a conversation that is stored already; intake then marks that
conversation with the erasure's request, and the next sweep erases it here.
"""

import logging
import time
from collections.abc import Iterable, Iterator
from datetime import timedelta
from itertools import repeat
from typing import TypeVar
from uuid import UUID

from django.conf import settings
from django.db import connection, transaction
from django.db.models import Q
from django.db.models.functions import Now
from psycopg import sql

from chatbots import changelog
from chatbots.buckets import StorageError
from compliance import progress
from compliance.erasure import ledger, objects, rows
from compliance.errors import StepFailed
from compliance.models import ComplianceRequest, Export, Replay
from compliance.whereabouts import CLIENT, HOSTED, Whereabouts, storage_of
from conversations.models import ErasedChatter, UploadedFile, VariableValue

logger = logging.getLogger(__name__)

_T = TypeVar("_T")

_Status = ComplianceRequest.Status
_GIVEN_UP = (_Status.FAILED, _Status.CANCELLED, _Status.REJECTED)

# Rows removed by one statement, and how long each of these tasks may take: what is left waits for the next sweep.
_BATCH = 10_000
_OBJECTS_PER_SWEEP = 500
_SECONDS_PER_TASK = 10.0
_UPLOAD_ABANDONED = timedelta(days=1)

# What a worker or an intake holds is left for the next sweep: then the sweep never waits, and no two can block
# each other.
_DELETE_EXPIRED = sql.SQL(
    "DELETE FROM {table} WHERE id IN (SELECT id FROM {table} WHERE expires_at < now() ORDER BY expires_at"
    " LIMIT %(batch)s FOR UPDATE SKIP LOCKED)"
)

# Hardly any conversation is marked and not erased, but PostgreSQL multiplies the two shares and expects thousands:
# joined, all requests would be read. It expects an array to be short. The same below.
_LATE = """
SELECT id FROM compliance_compliancerequest
 WHERE status = 'completed'
   AND id = ANY(ARRAY(SELECT DISTINCT deletion_request_id FROM conversations_conversation
                       WHERE deletion_request_id IS NOT NULL AND deleted_at IS NULL))
 LIMIT 100
"""

_FORGET_CONVERSATION_DIGESTS = """
UPDATE conversations_conversation SET external_id_digest = NULL
 WHERE id = ANY(ARRAY(SELECT id FROM conversations_conversation
                       WHERE deleted_at < now() - make_interval(secs => %(kept)s) AND external_id_digest IS NOT NULL
                       ORDER BY deleted_at LIMIT %(batch)s FOR UPDATE SKIP LOCKED))
"""

# Not while an export of the chatter still lies somewhere: a later deletion finds it by this digest.
_FORGET_CHATTER_DIGESTS = """
UPDATE compliance_compliancerequest SET uci_digest = NULL
 WHERE id = ANY(ARRAY(
       SELECT r.id FROM compliance_compliancerequest r
        WHERE coalesce(r.completed_at, r.cancelled_at, r.rejected_at, r.failed_at)
              < now() - make_interval(secs => %(kept)s)
          AND r.uci_value IS NULL AND r.uci_digest IS NOT NULL
          AND NOT EXISTS (SELECT 1 FROM compliance_export e WHERE e.request_id = r.id AND e.key IS NOT NULL)
        ORDER BY coalesce(r.completed_at, r.cancelled_at, r.rejected_at, r.failed_at)
        LIMIT %(batch)s FOR UPDATE OF r SKIP LOCKED))
"""


def erase_late_data() -> None:
    """Erase marked conversations whose deletion has completed already, in bites.

    Objects first: as long as a conversation is not erased, the next sweep finds it again.
    """
    while request_ids := _requests_with_late_data():
        failures = objects.erase_files(transaction.atomic, request_ids)
        request_ids = [request_id for request_id in request_ids if request_id not in failures]
        if failures:
            logger.warning("late_data.waits requests=%s", ",".join(map(str, failures)))
        if not request_ids or not _in_ledger(request_ids):
            return
        with transaction.atomic():
            counts = rows.erase_marked(request_ids)
            progress.add_counts(counts)
            _record(counts)


def remove_expired() -> None:
    """Remove what was kept for a time: exports, unfinished uploads, variables' values, digests, remembered calls."""
    _remove_expired_exports()
    _remove_abandoned_uploads()
    _remove_expired_ledger()
    for model in (VariableValue, ErasedChatter, Replay):
        _in_batches(_DELETE_EXPIRED.format(table=sql.Identifier(model._meta.db_table)))
    for statement in (_FORGET_CONVERSATION_DIGESTS, _FORGET_CHATTER_DIGESTS):
        _in_batches(sql.SQL(statement))


def _in_batches(statement: sql.Composable) -> None:
    kept = settings.ERASURE_LEDGER_DAYS.total_seconds()
    with connection.cursor() as cursor:
        for _ in _for_a_while(repeat(None)):
            cursor.execute(statement, {"kept": kept, "batch": _BATCH})
            if cursor.rowcount < _BATCH:
                return


def _for_a_while(things: Iterable[_T]) -> Iterator[_T]:
    """Yield things until the time of a task is over: a storage that does not answer must not hold a worker."""
    end = time.monotonic() + _SECONDS_PER_TASK
    for thing in things:
        yield thing
        if time.monotonic() > end:
            return


def _requests_with_late_data() -> list[UUID]:
    with connection.cursor() as cursor:
        cursor.execute(_LATE)
        return [row[0] for row in cursor.fetchall()]


def _in_ledger(request_ids: list[UUID]) -> bool:
    """Write the ledger anew, with the late conversations, before they are erased."""
    try:
        ledger.write(list(ledger.read(request_ids).values()))
    except StepFailed as failure:
        logger.warning("late_data.waits code=%s", failure.code)
        return False
    return True


def _record(counts: dict[UUID, progress.Counts]) -> None:
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


def _remove_expired_exports() -> None:
    """Remove exports whose days are over, and what an export that was given up may have left under its key.

    Hosted ones first. Of a client's bucket that refuses or does not answer, nothing more is tried in this sweep.
    """
    expired = Q(expires_at__lt=Now())
    given_up = Q(finished_at__isnull=True, request__status__in=_GIVEN_UP)
    # Each in the order of the index that has them, or all exports would be read to sort them.
    for condition, order in (
        (expired, "expires_at"),
        (given_up & Q(hosting=HOSTED), "pk"),
        (given_up & Q(hosting=CLIENT), "pk"),
    ):
        exports = Export.objects.filter(condition, key__isnull=False).order_by(order)
        refusing: set[Whereabouts] = set()
        for export in _for_a_while(exports[:_OBJECTS_PER_SWEEP]):
            where = Whereabouts(export.chatbot_id, export.hosting, export.bucket)
            if where not in refusing and not _removed(export, where) and where.hosting == CLIENT:
                refusing.add(where)


def _removed(export: Export, where: Whereabouts) -> bool:
    """Remove an export with the copies beside it; return whether nothing of it is left to be removed."""
    with transaction.atomic():
        objects.forget_out_of_reach([export.request_id], by="request_id")
    if not Export.objects.filter(pk=export.pk, key=export.key).exists():
        return True
    for failure in objects.erase_copies(transaction.atomic, [export.request_id]).values():
        logger.warning("expired_object.waits code=%s", failure.code)
        return False
    if not _purged(str(export.key), where):
        return False
    # Not if a retry has taken another key meanwhile.
    Export.objects.filter(pk=export.pk, key=export.key).update(key=None, upload_id=None, removed_at=Now())
    return True


def _remove_abandoned_uploads() -> None:
    """Remove uploads that were begun and never finished: what storage has of them, then the row with the name."""
    abandoned = UploadedFile.objects.filter(
        state=UploadedFile.State.UPLOADING, created_at__lt=Now() - _UPLOAD_ABANDONED
    ).order_by("created_at")
    for upload in _for_a_while(abandoned[:_OBJECTS_PER_SWEEP]):
        if _purged(upload.object_key, Whereabouts(upload.chatbot_id)):
            UploadedFile.objects.filter(pk=upload.pk, state=UploadedFile.State.UPLOADING).delete()


def _remove_expired_ledger() -> None:
    try:
        ledger.remove_expired()
    except StorageError as error:
        logger.warning("expired_ledger.waits code=%s", error.code)


def _purged(key: str, where: Whereabouts) -> bool:
    """Purge an object; where storage refuses, its row stays, so the next sweep tries again."""
    try:
        storage_of(where).purge(key)
    except (StorageError, StepFailed) as error:
        logger.warning("expired_object.waits code=%s", error.code)
        return False
    return True
