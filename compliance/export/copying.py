"""Copies of uploaded files beside an export (`include_files`), some at a time, so that memory stays flat.

Each copy is recorded before anything can be under its key, and sent by a multipart upload that was open when a bite
saw that no deletion has met the export. So whoever removes the export later finds either the open upload, which
then can never complete, or the object.
"""

import hashlib
import logging
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from functools import partial

from django.db import connection

from chatbots.buckets import PART_BYTES, ObjectStorage, StorageError, Written, hosted_storage
from compliance.claims import HeldClaim
from compliance.errors import StepFailed
from compliance.export.crew import THREADS, Crew, Keeper
from compliance.export.naming import copy_key
from compliance.export.recording import Target
from conversations.snapshots import SNAPSHOT_MINUTES
from conversations.transcripts import StoredFile, Transcripts
from conversations.uploads import download_name

logger = logging.getLogger(__name__)

COPIES_PER_BITE = 100
# What the threads may hold of files at once. One alone holds a part that is put together and one that is sent.
_MOST_BYTES = 4 * PART_BYTES
_BYTES_OF_LARGE = 2 * PART_BYTES


# What has to go since a deletion met it, or what another worker has under a key of its own by now, gets no copy.
_RECORD_COPIES = """
WITH ours AS (
    SELECT e.id, e.key, e.chatbot_id
      FROM unnest(%(exports)s::bigint[], %(export_keys)s::text[]) AS target(id, key)
      JOIN compliance_export e ON e.id = target.id AND e.key = target.key
     WHERE e.expires_at IS NULL
     ORDER BY e.id
       FOR UPDATE OF e
), recorded AS (
    INSERT INTO compliance_exportfile (chatbot_id, export_id, file_id, key)
    SELECT ours.chatbot_id, ours.id, copy.file_id, copy.key
      FROM unnest(%(of)s::bigint[], %(files)s::bigint[], %(keys)s::text[]) AS copy(export_id, file_id, key)
      JOIN ours ON ours.id = copy.export_id
)
SELECT id FROM ours
"""
_NOTE_COPIES = """
UPDATE compliance_exportfile f SET bytes = copy.bytes, sha256 = copy.sha256
  FROM unnest(%(of)s::bigint[], %(keys)s::text[], %(sizes)s::bigint[], %(digests)s::text[])
         AS copy(export_id, key, bytes, sha256)
 WHERE f.export_id = copy.export_id AND f.key = copy.key
"""


@dataclass(frozen=True)
class Copy:
    """An uploaded file and the object beside an export that will hold the same bytes."""

    target: Target
    file: StoredFile
    key: str


class Copying:
    """Copy the files of some exports of a claim.

    `failed` says which exports must not go on, and why; `overtaken` are those that a deletion has met.
    """

    def __init__(self, held: HeldClaim, keeper: Keeper, storage: ObjectStorage) -> None:
        self.failed: dict[Target, StepFailed] = {}
        self.overtaken: set[Target] = set()
        self.copied: Counter[Target] = Counter()
        self._held = held
        self._keeper = keeper
        self._storage = storage
        # PostgreSQL's timeout does not see it: between two reads no statement is under way.
        self._until = time.monotonic() + SNAPSHOT_MINUTES * 60

    def run(self, transcripts: Transcripts, targets: Iterable[Target]) -> None:
        """Copy the files that the snapshot names, those of an export that fails no further. Raises ClaimLost."""
        wanted = {target.place: target for target in targets}
        with closing(transcripts.stored_files(wanted, at_once=COPIES_PER_BITE)) as groups:
            for files in groups:
                self._copy([self._planned(wanted[file.place], file) for file in files])

    def _planned(self, target: Target, file: StoredFile) -> Copy:
        return Copy(target, file, copy_key(target.key, file_id=file.file_id))

    def _copy(self, copies: Collection[Copy]) -> None:
        copies = list(self._unfailed(copies))
        if not copies:
            return
        self._keep_only(copies, _record)
        opening = Crew[Copy, str](self._keeper)
        sending = Crew[Copy, Written](self._keeper, waiting=THREADS, most_bytes=_MOST_BYTES)
        try:
            with opening:
                for copy in self._unfailed(copies):
                    opening.hand(copy, partial(self._open, copy))
            self._note_failed(opening)
            self._keep_only(copies, _still_wanted)
            with sending:
                for copy in self._unfailed(opening.done):
                    size = min(copy.file.size, _BYTES_OF_LARGE)
                    sending.hand(copy, partial(self._send, copy, opening.done[copy]), size=size)
        finally:
            # What was handed on aborts by itself.
            self._abort({copy: upload for copy, upload in opening.done.items() if copy not in sending.begun})
        self._note_failed(sending)
        with self._held.bite():
            _note(sending.done)
        self.copied.update(copy.target for copy in sending.done)

    def _unfailed(self, copies: Iterable[Copy]) -> Iterator[Copy]:
        """Yield those that are still to be made when their turn comes."""
        for copy in copies:
            if time.monotonic() > self._until:
                self.failed.setdefault(copy.target, _too_slow())
            if copy.target not in self.failed and copy.target not in self.overtaken:
                yield copy

    def _keep_only(self, copies: Collection[Copy], look: Callable[[Collection[Copy]], set[Target]]) -> None:
        """Leave out what a deletion has met by now. `look` tells what may go on, under intake's locks."""

        def overtaken(_now: datetime, chatbots: set[int]) -> set[Target]:
            ours = [copy for copy in copies if copy.target.chatbot_id in chatbots]
            return {copy.target for copy in ours} - look(ours)

        self.overtaken.update(self._held.share_with_intake({copy.target.chatbot_id for copy in copies}, overtaken))

    def _note_failed(self, crew: Crew[Copy, str] | Crew[Copy, Written]) -> None:
        for copy, failure in crew.failed.items():
            self.failed.setdefault(copy.target, failure)

    def _open(self, copy: Copy) -> str:
        # Stored with the object, so that no link to it has to bear the name.
        return self._storage.open_upload(
            copy.key, content_type=copy.file.content_type, filename=download_name(copy.file.name)
        )

    def _send(self, copy: Copy, upload_id: str) -> Written:
        digest = hashlib.sha256()

        def pieces() -> Iterator[bytes]:
            for piece in _read(copy.file):
                digest.update(piece)
                yield piece

        def compare() -> None:
            if digest.hexdigest() != copy.file.sha256:
                raise _lost()

        return self._storage.write_parts(copy.key, upload_id, pieces(), before_complete=compare)

    def _abort(self, uploads: dict[Copy, str]) -> None:
        for copy, upload_id in uploads.items():
            try:
                self._storage.abort(copy.key, upload_id)
            except StorageError as error:
                # Whoever removes the copies purges the keys; a storage that fails is not asked again and again.
                logger.warning("export.upload_not_aborted code=%s", error.code)
                return


def _read(file: StoredFile) -> Iterator[bytes]:
    """Yield the uploaded file. Raises StorageError; if there is no such object, `export_file_lost`."""
    missing = False
    try:
        yield from hosted_storage().stream(file.object_key)
    except StorageError as error:
        if error.code != "storage_incomplete":
            raise
        missing = True
    if missing:
        raise _lost()


def _lost() -> StorageError:
    detail = "An uploaded file that was to be copied is not in the hosted bucket, or not as it was stored."
    # A deletion may be at work on it; then the next attempt leaves it out.
    return StorageError("export_file_lost", detail, retryable=True)


def _too_slow() -> StepFailed:
    detail = f"The bucket was too slow: in {SNAPSHOT_MINUTES} minutes not all of the uploaded files were copied."
    return StepFailed("export_not_read", detail)


def _record(copies: Collection[Copy]) -> set[Target]:
    """Note where copies go, in the caller's bite under intake's locks; return the exports that may have them."""
    return _lock_targets({copy.target for copy in copies}, copies)


def _still_wanted(copies: Collection[Copy]) -> set[Target]:
    """Return the exports that no deletion has met since, in the caller's bite under intake's locks."""
    return _lock_targets({copy.target for copy in copies}, ())


def _note(written: Mapping[Copy, Written]) -> None:
    """Note what the copies that are whole hold, in the caller's bite."""
    values: dict[str, list[int] | list[str]] = {
        "of": [copy.target.export_id for copy in written],
        "keys": [copy.key for copy in written],
        "sizes": [one.bytes for one in written.values()],
        "digests": [one.sha256 for one in written.values()],
    }
    with connection.cursor() as cursor:
        cursor.execute(_NOTE_COPIES, values)


def _lock_targets(targets: Collection[Target], copies: Collection[Copy]) -> set[Target]:
    values: dict[str, list[int] | list[str]] = {
        "exports": [target.export_id for target in targets],
        "export_keys": [target.key for target in targets],
        "of": [copy.target.export_id for copy in copies],
        "files": [copy.file.file_id for copy in copies],
        "keys": [copy.key for copy in copies],
    }
    with connection.cursor() as cursor:
        cursor.execute(_RECORD_COPIES, values)
        locked = {row[0] for row in cursor.fetchall()}
    return {target for target in targets if target.export_id in locked}
