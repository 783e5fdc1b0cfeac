"""The files beside the manifest of an export in several formats.

Each is recorded before anything can be under its key, and sent by a multipart upload that was open when a transaction
found that no deletion has met the export, like the copies of uploaded files (`attachments`).
"""

from collections.abc import Iterator
from datetime import datetime

from django.db.models import F, QuerySet

from common.leases import LeaseRenewer
from common.storage import ObjectStorage
from compliance.export.formats import Listed, Part
from compliance.export.records import Target, beside, met_since
from compliance.models import ExportFile
from compliance.work.claims import HeldClaim


class Met(Exception):
    """A deletion has met the export."""


class Folder:
    def __init__(self, held: HeldClaim, renewer: LeaseRenewer, storage: ObjectStorage, target: Target) -> None:
        self._held, self._renewer, self._storage, self._target = held, renewer, storage, target

    def write(self, part: Part) -> None:
        """Write a file. Raises Met, StorageError, psycopg's errors and ClaimLost; then nothing is under its key."""
        key = beside(self._target.key, part.name)
        if self._was_met(record=key):
            raise Met
        upload_id = self._storage.open_upload(key, content_type=part.media_type)
        try:
            was_met = self._was_met()
        except BaseException:
            # Another worker that has the claim by now may have removed the row before the upload was open.
            self._storage.abort_after_error(key, upload_id)
            raise
        if was_met:
            self._storage.abort(key, upload_id)
            raise Met
        written = self._storage.write_parts(
            key, upload_id, part.data, meanwhile=self._renewer.renew_if_due, before_complete=self._held.renew
        )
        with self._held.transaction():
            self._rows().filter(key=key).update(bytes=written.bytes, sha256=written.sha256)

    def files(self) -> Iterator[Listed]:
        """Yield all files beside the manifest, the copies of uploaded files last."""
        for row in self._rows().order_by(F("file_id").asc(nulls_first=True), "pk"):
            yield Listed(row.name, row.bytes or 0, row.sha256 or "")

    def _rows(self) -> QuerySet[ExportFile]:
        return ExportFile.objects.filter(export=self._target.export_id)

    def _was_met(self, *, record: str = "") -> bool:
        def look(_now: datetime, _chatbots: set[int]) -> set[Target]:
            met = met_since({self._target}, lock=True)
            if record and not met:
                ExportFile.objects.create(
                    chatbot_id=self._target.chatbot_id, export_id=self._target.export_id, key=record
                )
            return met

        return bool(self._held.share_with_intake({self._target.chatbot_id}, look))
