"""Make the file of one day: read in one snapshot, streamed into the bucket, published whole or not at all.

    abort what attempts before left -> record the key -> open the upload, record its id -> wait for intakes under way
    -> snapshot: version and rows -> send -> still ours? -> publish -> remove older versions -> done

Killed at any instant, the row names the key, and the next attempt aborts the upload before it reads: so a worker
that wakes later cannot publish over it. Until the last statement the row does not say `done`; then no older version
of the object is left, neither one that a killed worker published.

An erasure, or a late message, raises the row's version in the transaction that deletes, or stores: what was read in a
snapshot before that is known by its version. The first file of a day is then not published. One that takes the place
of an older one is, since it is nearer to the truth; else a day that keeps changing would never get on, nor would the
deletions that wait for it. So in the hosted bucket a first one is, too, an hour after the day got its row. The row
stays stale, and is made again.
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
from common.leases import LeaseRenewer
from common.logs import describe_database_error, describe_kind
from common.storage import StorageError, Written
from conversations.extracts.work import ExtractLost, Held
from conversations.locks import await_under_way
from conversations.snapshots import read_patiently, snapshot
from conversations.transcripts import WindowFile

logger = logging.getLogger(__name__)

CONTENT_TYPE = "text/csv; charset=utf-8"

# Rows are looked up where a LATERAL says so, and joined by hashing elsewhere: without statistics the planner would
# look up what belongs together once for each row. In 4 MB, the default, a day is sorted on disk in many small runs.
_READING = {"enable_nestloop": "off", "work_mem": "64MB"}

# So long a first hosted file is not published when something was erased or came late while it was read.
FIRST_PATIENCE = timedelta(hours=1)

# Called with the number of bytes that were read since the last call.
OnRead = Callable[[int], object]


class ExtractFailed(Exception):
    """A day's file could not be made. Code and detail are ours; `retryable` says whether trying again can help."""

    def __init__(self, code: str, detail: str, *, retryable: bool = True) -> None:
        super().__init__(code)
        self.code = code
        self.detail = detail
        self.retryable = retryable


class _Outdated(Exception):
    """The day was changed while its first file was read: nothing is published."""


@dataclass
class _Read:
    """What was read of the day: at which version, and how many lines."""

    version: int = 0
    rows: int = 0


def key_of(place: StorageLocation, day: str) -> str:
    """Return the key of the extract of a day, in ISO form."""
    return f"{place.prefix}daily_conversations_extracts/{day}_conversations_extract.csv"


def make(held: Held, *, on_read: OnRead = lambda _bytes: None) -> bool:
    """Make the file of a day that was taken, and note what became of it on its row; return whether it is done.

    Call it outside any transaction. Raises nothing of the storage's or the database's own.
    """
    try:
        return _make(held, on_read)
    except ExtractLost:
        logger.warning("extract.lost extract=%s", held.id)
        return False
    except _Outdated:
        logger.info("extract.outdated extract=%s", held.id)
        held.settle()
        return False
    except ExtractFailed as failure:
        held.fail(failure.code, failure.detail, retryable=failure.retryable)
    except StorageError as error:
        if error.code == "storage_resting":
            held.rest()
        else:
            held.fail(error.code, error.detail, retryable=error.retryable)
    except Exception as error:  # whatever it was, other days are made
        logger.error("extract.failed extract=%s", held.id, exc_info=error)  # noqa: TRY400  the formatter reduces it
        detail = f"The work stopped with an unforeseen error: {describe_kind(error)}."
        held.fail("internal_error", detail, retryable=True)
    return False


def _make(held: Held, on_read: OnRead) -> bool:
    place = _place(held)
    if not place.is_hosted and not held.may_call_client:
        # The chatbot's bucket was changed since the day was taken.
        held.requeue()
        return False
    # A hosted file keeps its key, whatever became of the chatbot's slug.
    is_there = held.key is not None and held.hosting == place.hosting == Bucket.Hosting.HOSTED
    key = str(held.key) if is_there else key_of(place, held.day.isoformat())
    _abort_former(held, place, key)
    held.record(place, key, None)
    upload_id = place.storage.open_upload(key, content_type=CONTENT_TYPE)
    try:
        held.record(place, key, upload_id)
        _await_writers(held)
    except BaseException:
        place.storage.abort_after_error(key, upload_id)
        raise
    read, written = _send(held, place, key, upload_id, on_read)
    if place.is_hosted:
        # Before the row says done: what holds erased lines is gone by then.
        held.renew()
        place.storage.purge_older(key, keep=written.version_id)
    return held.finish(written, rows=read.rows, version=read.version)


def _place(held: Held) -> StorageLocation:
    """Return where the file goes. What lies in the hosted bucket is made again there, whatever is set since.

    Raises ExtractFailed, and StorageError where a client's settings cannot be used.
    """
    if held.key and held.hosting == Bucket.Hosting.HOSTED:
        return hosted_location(Chatbot.objects.get(pk=held.chatbot_id))
    bucket = Bucket.objects.select_related("chatbot").get(chatbot=held.chatbot_id)
    detail = ""
    try:
        return location_of(bucket)
    except SecretUnreadable:
        detail = "The stored secret of the client's bucket does not open with ENCRYPTION_KEYS. Set the bucket anew."
    raise ExtractFailed("bucket_secret_unreadable", detail, retryable=False)


def _abort_former(held: Held, place: StorageLocation, key: str) -> None:
    if held.key is None:
        return
    if place.is_hosted:
        # Also one whose id its worker did not live to record.
        place.storage.abort_all(key)
    elif held.upload_id and (held.hosting, held.bucket, held.key) == (place.hosting, place.bucket, key):
        place.storage.abort(key, held.upload_id)


def _await_writers(held: Held) -> None:
    """Wait for the intakes and marks that may not have seen the row of a new day; later ones see it, and flag it."""
    if held.state == "pending":
        with transaction.atomic():
            await_under_way(held.chatbot_id)


def _send(held: Held, place: StorageLocation, key: str, upload_id: str, on_read: OnRead) -> tuple[_Read, Written]:
    read, renewer = _Read(), LeaseRenewer(held.renew)

    def before_complete() -> None:
        is_first = held.made_version is None or held.key is None
        is_young = timezone.now() - held.created_at < FIRST_PATIENCE
        if held.renew() != read.version and ((is_first and is_young) or not place.is_hosted):
            raise _Outdated

    try:
        written = place.storage.write_parts(
            key,
            upload_id,
            _lines(held, read, on_read, renewer),
            meanwhile=renewer.renew_if_due,
            before_complete=before_complete,
        )
    except psycopg.Error as error:
        # From our own connection: Django's raises Django's errors.
        detail = f"The conversations could not be read: {describe_database_error(error)}."
        raise ExtractFailed("extract_not_read", detail) from None
    return read, written


def _lines(held: Held, read: _Read, on_read: OnRead, renewer: LeaseRenewer) -> Iterator[bytes]:
    with snapshot(**_READING) as reader:
        read.version = _version(held, reader)
        file = WindowFile(reader, chatbot_id=held.chatbot_id, starts_at=held.starts_at, ends_at=held.ends_at)
        for chunk in read_patiently(reader, file.chunks(), meanwhile=renewer.renew_if_due):
            renewer.renew_if_due()
            on_read(len(chunk))
            yield chunk
        read.rows = file.lines


def _version(held: Held, reader: psycopg.Connection) -> int:
    """Read the version in the snapshot of the rows: an erasure or a late message changes both at once."""
    statement = sql.SQL("SELECT version FROM conversations_dailyextract WHERE id = %s AND token = %s")
    row = reader.execute(statement, [held.id, held.token]).fetchone()
    if row is None:
        raise ExtractLost
    version: int = row[0]
    return version
