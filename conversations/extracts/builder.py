"""Build the file of one day: read in one snapshot, streamed into the bucket, published whole or not at all.

    abort uploads of earlier attempts -> record the key -> open the upload, record its id -> wait for running intakes
    -> snapshot: version and rows -> send -> lease still held? -> publish -> remove older versions -> done

If a worker is killed at any instant, the row contains the key, and the next attempt aborts the upload before it
reads: so a worker that wakes up later cannot publish over it. The row is `done` only with the last statement, when no
older version of the object is left, not even one that a killed worker published.

An erasure, or a late message, raises the row's version in its own transaction, so an earlier snapshot is recognised
by its version. A first file with an outdated version is not published. One that replaces an older file is, since it
is nearer to the present: otherwise a day that keeps changing, and the deletions that wait for it, would never finish.
For the same reason a first file in the hosted bucket is published from FIRST_PATIENCE after the row's creation on.
The row stays stale, and the file is built again.
"""

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta

import psycopg
from django.db import transaction
from django.utils import timezone
from psycopg import sql

from chatbots.buckets import StorageLocation, hosted_location, location_of
from chatbots.models import Bucket, Chatbot
from common.crypto import SecretUnreadable
from common.database_errors import REFUSED, describe_database_error, describe_refusal, was_refused_temporarily
from common.leases import LeaseLost, LeaseRenewer
from common.logs import describe_kind
from common.storage import StorageError, Written
from conversations.extracts import leases
from conversations.extracts.leases import SETTLING
from conversations.locks import wait_for_intake
from conversations.models import DailyExtract
from conversations.placement import machines
from conversations.protection import find_restricted
from conversations.snapshots import read_patiently, snapshot
from conversations.transcripts import CONTENT_TYPE, DayTranscript

logger = logging.getLogger(__name__)


# Rows are looked up where a LATERAL says so, and hash-joined elsewhere: without statistics the planner would look up
# related rows one by one. In 4 MB, the default, a day is sorted on disk in many small runs.
_READ_SETTINGS = {"enable_nestloop": "off", "work_mem": "64MB"}

FIRST_PATIENCE = timedelta(hours=1)
# The wait for a bucket whose calls are suspended, or for a machine of the database. It counts as no attempt.
_WAIT = timedelta(seconds=60)

# A function that gets the number of bytes read since the last call.
OnRead = Callable[[int], object]


class _Outdated(Exception):
    """The day changed while its first file was read: nothing is published."""


@dataclass
class _Snapshot:
    """The snapshot of a file: the row's version, and the number of lines."""

    version: int = 0
    rows: int = 0


def key_of(location: StorageLocation, day: str) -> str:
    """Return the object key for a day in ISO form."""
    return f"{location.prefix}daily_conversations_extracts/{day}_conversations_extract.csv"


def build(
    extract: DailyExtract,
    *,
    may_call_client: bool = True,
    on_read: OnRead = lambda _bytes: None,
    on_refused: Callable[[], object] = lambda: None,
) -> bool:
    """Build the file of a taken day, and record the result on its row. Return whether it is done.

    Without `may_call_client` it calls only the hosted bucket. `on_refused` is called if the database refuses the work
    for now. Call it outside any transaction. Raises the database's error if the result cannot be recorded within half
    a minute: then the lease expires.
    """
    try:
        return _build(extract, on_read, may_call_client=may_call_client)
    except LeaseLost:
        logger.warning("extract.lost extract=%s", extract.id)
    except _Outdated:
        logger.info("extract.outdated extract=%s", extract.id)
        leases.requeue(extract, wait=SETTLING)
    except SecretUnreadable:
        detail = "The stored secret of the client's bucket does not open with ENCRYPTION_KEYS. Set the bucket anew."
        leases.fail(extract, "bucket_secret_unreadable", detail, retryable=False)
    except StorageError as error:
        if error.code == "storage_resting":
            leases.requeue(extract, wait=_WAIT)
        else:
            leases.fail(extract, error.code, error.detail, retryable=error.retryable)
    except Exception as error:  # other days must be built in any case
        if machines.has_failed(error):
            _lose_machine(extract)
        elif was_refused_temporarily(error):
            detail = describe_refusal(error)
            logger.warning("extract.refused extract=%s %s", extract.id, detail)
            on_refused()
            leases.postpone(extract, REFUSED, detail, wait=_WAIT)
        elif isinstance(error, psycopg.Error):  # of the reader, since Django's raises Django's errors
            detail = f"The conversations could not be read: {describe_database_error(error)}."
            leases.fail(extract, "extract_not_read", detail, retryable=True)
        else:
            logger.error("extract.failed extract=%s", extract.id, exc_info=error)  # noqa: TRY400  the formatter reduces it
            detail = f"The work stopped with an unforeseen error: {describe_kind(error)}."
            leases.fail(extract, "internal_error", detail, retryable=True)
    return False


def _lose_machine(extract: DailyExtract) -> None:
    """Requeue the first time without a lost attempt. Later its own statement may be the cause of the failure."""
    if extract.error_code == machines.SILENT:
        leases.fail(extract, machines.SILENT, machines.LOST, retryable=True)
    else:
        leases.postpone(extract, machines.SILENT, machines.LOST, wait=_WAIT)


def _build(extract: DailyExtract, on_read: OnRead, *, may_call_client: bool) -> bool:
    location = _location(extract)
    if not location.is_hosted and not may_call_client:
        # The chatbot's bucket was changed since the day was taken.
        leases.requeue(extract)
        return False
    # A hosted file keeps its key, even if the chatbot's slug has changed.
    replaces = extract.key is not None and extract.hosting == location.hosting == Bucket.Hosting.HOSTED
    key = str(extract.key) if replaces else key_of(location, extract.day.isoformat())
    _abort_earlier_uploads(extract, location, key)
    leases.record(extract, location, key, None)
    upload_id = location.storage.open_upload(key, content_type=CONTENT_TYPE)
    try:
        leases.record(extract, location, key, upload_id)
        if extract.state == "pending":
            # Waits for intakes and marks that may not have seen the row of a new day. Later ones see it, and flag it.
            with transaction.atomic():
                wait_for_intake(extract.chatbot_id)
    except BaseException:
        location.storage.abort_after_error(key, upload_id)
        raise
    source, written = _send(extract, location, key, upload_id, on_read)
    if location.is_hosted:
        # Before the row is done: by then no version with erased lines is left.
        extract.write()
        location.storage.purge_older(key, keep=written.version_id)
    return leases.finish(extract, location, written, rows=source.rows, version=source.version)


def _location(extract: DailyExtract) -> StorageLocation:
    """Return the file's location. A file in the hosted bucket is replaced there, whatever the settings are now.

    Raises SecretUnreadable, and StorageError if a client's settings cannot be used.
    """
    if extract.key and extract.hosting == Bucket.Hosting.HOSTED:
        return hosted_location(Chatbot.objects.get(pk=extract.chatbot_id))
    return location_of(Bucket.objects.select_related("chatbot").get(chatbot=extract.chatbot_id))


def _abort_earlier_uploads(extract: DailyExtract, location: StorageLocation, key: str) -> None:
    recorded = extract.hosting, extract.bucket, extract.key
    if extract.key is not None and location.is_hosted:
        # Including an upload whose worker was killed before it recorded the id.
        location.storage.abort_all(key)
    elif extract.upload_id and recorded == (location.hosting, location.bucket, key):
        location.storage.abort(key, extract.upload_id)


def _send(
    extract: DailyExtract, location: StorageLocation, key: str, upload_id: str, on_read: OnRead
) -> tuple[_Snapshot, Written]:
    source, renewer = _Snapshot(), LeaseRenewer(extract.write)

    def before_complete() -> None:
        is_first = extract.made_version is None or extract.key is None
        is_young = timezone.now() - extract.created_at < FIRST_PATIENCE
        if leases.present_version(extract) != source.version and ((is_first and is_young) or not location.is_hosted):
            raise _Outdated
        if not location.is_hosted and extract.made_version is None:
            # The answer may be lost of a storage that has published it.
            extract.write(made_version=source.version)

    written = location.storage.write_parts(
        key,
        upload_id,
        _chunks(extract, source, on_read, renewer),
        meanwhile=renewer.renew_if_due,
        before_complete=before_complete,
    )
    return source, written


def _chunks(extract: DailyExtract, source: _Snapshot, on_read: OnRead, renewer: LeaseRenewer) -> Iterator[bytes]:
    left_out = find_restricted(extract.chatbot_id)
    with snapshot(**_READ_SETTINGS) as reader:
        # In the snapshot of the rows: an erasure or a late message changes both at once.
        statement = sql.SQL("SELECT version FROM conversations_dailyextract WHERE id = %s AND token = %s")
        row = reader.execute(statement, [extract.id, extract.token]).fetchone()
        if row is None:
            raise LeaseLost
        source.version = row[0]
        file = DayTranscript(
            reader,
            chatbot_id=extract.chatbot_id,
            starts_at=extract.starts_at,
            ends_at=extract.ends_at,
            left_out=left_out,
        )
        for chunk in read_patiently(reader, file.chunks(), meanwhile=renewer.renew_if_due):
            renewer.renew_if_due()
            on_read(len(chunk))
            yield chunk
        source.rows = file.lines
