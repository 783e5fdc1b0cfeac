"""What one chatter gets: a CSV of the conversations, written into the bucket as one whole object or not at all.

A kill at any instant leaves an Export row that names the key, so the next attempt (and a deletion) can remove
whatever is there. A worker that wakes after its claim was lost can publish nothing: its upload was aborted when
the key was purged, or it finds its claim gone before it publishes.

Against a deletion that meets one of these conversations: the Export row is made under the chatbot's intake lock,
which a mark holds alone, and before the snapshot is read. So either the mark came first, and the snapshot leaves
the conversation out, or the mark finds the row and dooms it, and then this file never becomes a delivery.
"""

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import datetime
from itertools import count
from typing import Any

import psycopg
from django.db import connection

from chatbots.buckets import ObjectStorage, StorageError, export_prefix, hosted_storage
from chatbots.models import Chatbot
from compliance.claims import HeldClaim
from compliance.errors import StepFailed
from compliance.export.naming import export_key
from compliance.models import ComplianceRequest, Export
from config.logs import describe_database_error
from conversations.locks import share_with_intake
from conversations.transcripts import ChatterTranscript

# A part that the storage takes late (chatbots.buckets) must still fit in the lease with this.
SECONDS_BETWEEN_KEEPS = 15.0
# The snapshot keeps PostgreSQL from cleaning up what is deleted meanwhile, so a slow bucket must not hold it
# for ever. A gigabyte at a megabyte a second takes 17 minutes.
SNAPSHOT_MINUTES = 30


@dataclass(frozen=True)
class Delivered:
    """A file that is whole and under its key."""

    export_id: int
    key: str
    rows: int
    bytes: int
    sha256: str
    conversations: int
    messages: int
    shared_left_out: int


def write_export(held: HeldClaim, request: ComplianceRequest) -> Delivered:
    """Write the file of an export under way and return what was written. Call it outside any transaction.

    Raises StepFailed with a storage code, `export_overtaken` (a deletion met these conversations) or
    `export_not_read` (the database); ClaimLost when another worker has the request. Nothing visible is left
    then, except that a storage which breaks while it publishes may have published: the next attempt removes it.
    """
    try:
        return _write(held, request, hosted_storage())
    except StorageError as error:
        raise StepFailed(error.code, error.detail, retryable=error.retryable) from None
    except psycopg.Error as error:
        # From our own connection: Django's raises Django's errors.
        raise StepFailed(
            "export_not_read", f"The conversations could not be read: {describe_database_error(error)}."
        ) from None


def _write(held: HeldClaim, request: ComplianceRequest, storage: ObjectStorage) -> Delivered:
    export = _recorded_export(held, request, storage)
    key = str(export.key)
    with _snapshot() as reader:
        transcript = ChatterTranscript(
            reader,
            chatbot_id=request.chatbot_id,
            variable_id=request.variable_id,
            value=str(request.uci_value),
            include_shared=request.include_shared,
        )
        counts = transcript.count()
        # Always a multipart upload, however small the file. It can be aborted; a single PUT cannot, and one
        # that a stale worker sent long ago could bring an erased file back.
        upload_id = _open_upload(held, export, storage)
        with closing(transcript.chunks()) as chunks:
            written = storage.write_parts(key, upload_id, _keeping(held.keep, chunks), before_complete=held.keep)
    return Delivered(
        export_id=export.pk,
        key=key,
        rows=transcript.rows,
        bytes=written.bytes,
        sha256=written.sha256,
        conversations=counts.conversations,
        messages=counts.messages,
        shared_left_out=counts.shared_left_out,
    )


def _recorded_export(
    held: HeldClaim, request: ComplianceRequest, storage: ObjectStorage, *, purged: str | None = None
) -> Export:
    """Return the row that names the key to write. First removes what an attempt before left under its key.

    Each attempt has a key of its own, and reads the one before in a bite. So a worker that wakes after its
    claim was lost can only purge a key that nobody uses any more.
    """
    with held.bite() as now:
        share_with_intake(request.chatbot_id)
        export = Export.objects.select_for_update().filter(request=request).first()
        export = export or Export(chatbot_id=request.chatbot_id, request=request)
        left = export.key
        if left in {None, purged}:
            if left is not None and export.doomed_by is not None:
                # Its deletion still has to note that the object is gone.
                raise _overtaken()
            export.key = _fresh_key(request, now)
            export.upload_id = export.doomed_by = export.removed_at = None
            export.save()
            return export
    storage.purge(str(left))
    return _recorded_export(held, request, storage, purged=left)


def _fresh_key(request: ComplianceRequest, now: datetime) -> str:
    # One at a time per chatbot: equal values under two variables, or that are shortened, share a folder.
    chatbot = Chatbot.objects.select_for_update(no_key=True).get(pk=request.chatbot_id)
    keys = (
        export_key(prefix=export_prefix(chatbot), value=str(request.uci_value), at=now, number=number)
        for number in count(1)
    )
    return next(key for key in keys if not Export.objects.filter(chatbot=chatbot, key=key).exists())


def _open_upload(held: HeldClaim, export: Export, storage: ObjectStorage) -> str:
    """Open the multipart upload and record its id, before the first byte is sent."""
    key = str(export.key)
    upload_id = storage.open_upload(key, content_type="text/csv; charset=utf-8")
    try:
        _record_upload(held, export, upload_id)
    except BaseException:
        storage.abort_after_error(key, upload_id)
        raise
    return upload_id


def _record_upload(held: HeldClaim, export: Export, upload_id: str) -> None:
    with held.bite():
        ours = Export.objects.filter(pk=export.pk, key=export.key, doomed_by__isnull=True)
        if not ours.update(upload_id=upload_id):
            raise _overtaken()


def _overtaken() -> StepFailed:
    return StepFailed("export_overtaken", "A deletion erased part of what was exported. It is made again.")


@contextmanager
def _snapshot() -> Iterator[psycopg.Connection[Any]]:
    """Open a connection that reads one instant of the database, and close it at the end.

    Not Django's: that one renews the claim meanwhile.
    """
    params = connection.get_connection_params() | {"cursor_factory": psycopg.Cursor}
    with psycopg.connect(**params) as reader:
        reader.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        reader.read_only = True
        reader.execute("SELECT set_config('statement_timeout', %s, TRUE)", [f"{SNAPSHOT_MINUTES}min"])
        yield reader


def _keeping(keep: Callable[[], None], chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Pass the chunks on, and keep the claim in between. Raises ClaimLost."""
    kept = time.monotonic()
    for chunk in chunks:
        if time.monotonic() - kept > SECONDS_BETWEEN_KEEPS:
            keep()
            kept = time.monotonic()
        yield chunk
