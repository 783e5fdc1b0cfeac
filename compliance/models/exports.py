"""Exports: the file of an export request, and the copies of uploaded files beside it."""

from django.db import models
from django.db.models import Q

from chatbots.models import Chatbot
from compliance.models.requests import ComplianceRequest


class Export(models.Model):
    """The file of an export request.

    The key and the multipart upload's id are recorded before the first byte is sent, so that whatever a killed
    worker left can be found and removed. The key may bear the chatter's value while the object lives.
    """

    chatbot = models.ForeignKey(Chatbot, on_delete=models.PROTECT, related_name="+", db_index=False)
    request = models.OneToOneField(ComplianceRequest, on_delete=models.PROTECT, related_name="export")
    hosting = models.CharField(max_length=8, default="hosted", help_text="Where the file lies, as in Bucket.")
    bucket = models.CharField(max_length=63, blank=True, default="", help_text="The name of a client's bucket.")
    endpoint = models.CharField(max_length=200, blank=True, default="", help_text="Of that bucket; empty for AWS.")
    key = models.CharField(max_length=1024, null=True, help_text="In the bucket; null once the object is gone.")
    upload_id = models.CharField(max_length=1024, null=True, help_text="Of the multipart upload, while open.")
    rows = models.BigIntegerField(null=True)
    bytes = models.BigIntegerField(null=True)
    sha256 = models.CharField(max_length=64, null=True, help_text="Lower-case hex.")
    finished_at = models.DateTimeField(null=True)
    expires_at = models.DateTimeField(null=True)
    removed_at = models.DateTimeField(null=True)
    doomed_by = models.UUIDField(
        null=True, help_text="The deletion that has to remove the object; set with its mark."
    )
    left_by = models.UUIDField(
        null=True, help_text="The deletion that left the object where it is, and names it in its status."
    )

    class Meta:
        constraints = [
            models.UniqueConstraint(name="export_key_once_per_chatbot", fields=["chatbot", "key"]),
            models.CheckConstraint(
                name="export_finished_is_whole",
                condition=Q(finished_at__isnull=True)
                | Q(rows__isnull=False, bytes__isnull=False, sha256__isnull=False, upload_id__isnull=True),
            ),
            models.CheckConstraint(
                name="export_removed_forgets_key", condition=Q(removed_at__isnull=True) | Q(key__isnull=True)
            ),
        ]
        indexes = [
            # The objects whose days are over.
            models.Index(name="export_expiry", fields=["expires_at"], condition=Q(key__isnull=False)),
            # Exports under way, or given up with something left.
            models.Index(
                name="export_unfinished",
                fields=["id"],
                condition=Q(finished_at__isnull=True, key__isnull=False),
            ),
            # The objects that a deletion still has to remove.
            models.Index(
                name="export_doomed",
                fields=["doomed_by"],
                condition=Q(doomed_by__isnull=False, key__isnull=False),
            ),
            # The objects that a deletion has left.
            models.Index(name="export_left", fields=["left_by"], condition=Q(left_by__isnull=False)),
        ]

    def __str__(self) -> str:
        return f"export {self.pk}"


class ExportFile(models.Model):
    """A copy of an uploaded file beside an export (`include_files`): one object, removed with the export."""

    chatbot = models.ForeignKey(Chatbot, on_delete=models.PROTECT, related_name="+", db_index=False)
    export = models.ForeignKey(Export, on_delete=models.CASCADE, related_name="copies", db_index=False)
    file_id = models.BigIntegerField(help_text="The uploaded file's number, as in the CSV; no database constraint.")
    key = models.CharField(max_length=1024, help_text="In the export's bucket; it may bear the chatter's value.")
    bytes = models.BigIntegerField(null=True)
    sha256 = models.CharField(max_length=64, null=True, help_text="Lower-case hex.")

    class Meta:
        constraints = [models.UniqueConstraint(name="exportfile_once", fields=["export", "key"])]
        indexes = [
            # From an object in the bucket to its row.
            models.Index(name="exportfile_key", fields=["key"]),
        ]

    def __str__(self) -> str:
        return f"export file {self.pk}"
