"""Write files beside an export: the files of its formats, and copies of uploaded files (`include_files`).

Copies are made some at a time, so that memory stays flat. Each file is recorded before anything can be under its
key, and sent by a multipart upload that was open when a transaction found that no deletion has met the export. So its
later removal finds either the open upload, which then can never complete, or the object.
"""

import hashlib
import logging
import time
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial

from django.db.models import F, QuerySet

from chatbots.buckets import hosted_storage
from common.db import execute
from common.leases import LeaseRenewer
from common.storage import PART_BYTES, ObjectStorage, StorageError, Written
from compliance.errors import StepFailed
from compliance.export.formats import Listed, Part
from compliance.export.records import Target, beside, met_since
from compliance.models import ExportFile
from compliance.work.claims import HeldClaim
from compliance.work.upload_pool import THREADS, UploadPool
from conversations.snapshots import SNAPSHOT_MINUTES
from conversations.transcripts import StoredFile, Transcripts
from conversations.uploads import download_name

logger = logging.getLogger(__name__)

COPIES_AT_ONCE = 100
# The most memory of all threads. One file needs the part being read and the part being sent.
_MOST_BYTES = 4 * PART_BYTES
_BYTES_OF_LARGE = 2 * PART_BYTES


_NOTE_COPIES = """
UPDATE compliance_exportfile f SET bytes = copy.bytes, sha256 = copy.sha256
  FROM unnest(%(of)s::bigint[], %(keys)s::text[], %(sizes)s::bigint[], %(digests)s::text[])
         AS copy(export_id, key, bytes, sha256)
 WHERE f.export_id = copy.export_id AND f.key = copy.key
"""


@dataclass(frozen=True)
class Copy:
    """An uploaded file and the key of its copy beside an export."""

    target: Target
    file: StoredFile
    key: str


@dataclass(eq=False, repr=False)
class FileCopier:
    """Copies the files of some exports of a claim.

    `failed` contains reasons. `overtaken` are the exports that a deletion has met.
    """

    held: HeldClaim
    renewer: LeaseRenewer
    storage: ObjectStorage
    failed: dict[Target, StepFailed] = field(default_factory=dict)
    overtaken: set[Target] = field(default_factory=set)
    copied: Counter[Target] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        # PostgreSQL's timeout does not apply between two reads.
        self._until = time.monotonic() + SNAPSHOT_MINUTES * 60

    def run(self, transcripts: Transcripts, targets: Iterable[Target]) -> None:
        """Copy the files in the snapshot, and no more files of an export that fails. Raises ClaimLost."""
        wanted = {target.place: target for target in targets}
        with closing(transcripts.stored_files(wanted, at_once=COPIES_AT_ONCE)) as groups:
            for files in groups:
                self._copy([_copy_of(file, wanted[file.place]) for file in files])

    def _copy(self, copies: Collection[Copy]) -> None:
        copies = list(self._without_failed(copies))
        if not copies:
            return
        self._drop_overtaken(copies, record=True)
        opening = UploadPool[Copy, str](self.renewer)
        sending = UploadPool[Copy, Written](self.renewer, waiting=THREADS, most_bytes=_MOST_BYTES)
        try:
            with opening:
                for copy in self._without_failed(copies):
                    opening.submit(copy, partial(self._open, copy))
            self._note_failed(opening)
            self._drop_overtaken(copies)
            with sending:
                for copy in self._without_failed(opening.done):
                    size = min(copy.file.size, _BYTES_OF_LARGE)
                    sending.submit(copy, partial(self._send, copy, opening.done[copy]), size=size)
        finally:
            # Uploads that the pool has taken abort by themselves.
            self._abort({copy: upload for copy, upload in opening.done.items() if copy not in sending.begun})
        self._note_failed(sending)
        with self.held.transaction():
            _note(sending.done)
        self.copied.update(copy.target for copy in sending.done)

    def _without_failed(self, copies: Iterable[Copy]) -> Iterator[Copy]:
        """Yield the copies whose export has not failed when their turn comes."""
        for copy in copies:
            if time.monotonic() > self._until:
                self.failed.setdefault(copy.target, _too_slow())
            if copy.target not in self.failed and copy.target not in self.overtaken:
                yield copy

    def _drop_overtaken(self, copies: Collection[Copy], *, record: bool = False) -> None:
        """Drop copies for exports that a deletion has met, under intake's locks. With `record`, record the others."""

        def overtaken(_now: datetime, chatbots: set[int]) -> set[Target]:
            ours = [copy for copy in copies if copy.target.chatbot_id in chatbots]
            met = met_since({copy.target for copy in ours}, lock=True)
            if record:
                _record(copy for copy in ours if copy.target not in met)
            return met

        self.overtaken.update(self.held.share_with_intake({copy.target.chatbot_id for copy in copies}, overtaken))

    def _note_failed(self, pool: UploadPool[Copy, str] | UploadPool[Copy, Written]) -> None:
        for copy, failure in pool.failed.items():
            self.failed.setdefault(copy.target, failure)

    def _open(self, copy: Copy) -> str:
        # The file name is stored with the object, so that no link contains it.
        return self.storage.open_upload(
            copy.key, content_type=copy.file.content_type, filename=download_name(copy.file.name)
        )

    def _send(self, copy: Copy, upload_id: str) -> Written:
        return self.storage.write_parts(copy.key, upload_id, read_file(copy.file))

    def _abort(self, uploads: dict[Copy, str]) -> None:
        for copy, upload_id in uploads.items():
            try:
                self.storage.abort(copy.key, upload_id)
            except StorageError as error:
                # Removing the copies purges the keys; a failing storage is not called again and again.
                logger.warning("export.upload_not_aborted code=%s", error.code)
                return


class Met(Exception):
    """A deletion has met the export."""


@dataclass(eq=False, repr=False)
class Folder:
    """The files beside the manifest of an export in several formats."""

    held: HeldClaim
    renewer: LeaseRenewer
    storage: ObjectStorage
    target: Target

    def write(self, part: Part) -> None:
        """Write a file. Raises Met, StorageError, psycopg's errors and ClaimLost; then nothing is under its key."""
        key = beside(self.target.key, part.name)
        if self._was_met(record=key):
            raise Met
        upload_id = self.storage.open_upload(key, content_type=part.media_type)
        try:
            was_met = self._was_met()
        except BaseException:
            # Another worker that has the claim by now may have removed the row before the upload was open.
            self.storage.abort_after_error(key, upload_id)
            raise
        if was_met:
            self.storage.abort(key, upload_id)
            raise Met
        written = self.storage.write_parts(
            key, upload_id, part.data, meanwhile=self.renewer.renew_if_due, before_complete=self.held.renew
        )
        with self.held.transaction():
            self._rows().filter(key=key).update(bytes=written.bytes, sha256=written.sha256)

    def files(self) -> Iterator[Listed]:
        """Yield all files beside the manifest, the copies of uploaded files last."""
        for row in self._rows().order_by(F("file_id").asc(nulls_first=True), "pk"):
            yield Listed(row.name, row.bytes or 0, row.sha256 or "")

    def _rows(self) -> QuerySet[ExportFile]:
        return ExportFile.objects.filter(export=self.target.export_id)

    def _was_met(self, *, record: str = "") -> bool:
        def look(_now: datetime, _chatbots: set[int]) -> set[Target]:
            met = met_since({self.target}, lock=True)
            if record and not met:
                ExportFile.objects.create(
                    chatbot_id=self.target.chatbot_id, export_id=self.target.export_id, key=record
                )
            return met

        return bool(self.held.share_with_intake({self.target.chatbot_id}, look))


def _copy_of(file: StoredFile, target: Target) -> Copy:
    return Copy(target, file, beside(target.key, file.file_id))


def read_file(file: StoredFile) -> Iterator[bytes]:
    """Yield the uploaded file. Raises StorageError, with `export_file_lost` if it is missing or was changed."""
    digest, missing = hashlib.sha256(), False
    try:
        for piece in hosted_storage().stream(file.object_key):
            digest.update(piece)
            yield piece
    except StorageError as error:
        if error.code != "storage_incomplete":
            raise
        missing = True
    if missing or digest.hexdigest() != file.sha256:
        raise _source_lost()


def _source_lost() -> StorageError:
    detail = "An uploaded file that was to be copied is not in the hosted bucket, or not as it was stored."
    # A deletion may be erasing it; then the next attempt leaves it out.
    return StorageError("export_file_lost", detail, retryable=True)


def _too_slow() -> StepFailed:
    detail = f"The bucket was too slow: in {SNAPSHOT_MINUTES} minutes not all of the uploaded files were copied."
    return StepFailed("export_not_read", detail)


def _record(copies: Iterable[Copy]) -> None:
    """Record the keys of copies, in the caller's transaction."""
    ExportFile.objects.bulk_create(
        ExportFile(
            chatbot_id=copy.target.chatbot_id,
            export_id=copy.target.export_id,
            file_id=copy.file.file_id,
            key=copy.key,
        )
        for copy in copies
    )


def _note(written: Mapping[Copy, Written]) -> None:
    """Record the sizes and digests of finished copies, in the caller's transaction."""
    values: dict[str, list[int] | list[str]] = {
        "of": [copy.target.export_id for copy in written],
        "keys": [copy.key for copy in written],
        "sizes": [one.bytes for one in written.values()],
        "digests": [one.sha256 for one in written.values()],
    }
    execute(_NOTE_COPIES, values)
