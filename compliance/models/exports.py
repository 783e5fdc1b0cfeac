"""Exports: the file of an export request, its conversations, and the copies of uploaded files beside it."""

from django.db import models
from django.db.models import Q
from django.utils import timezone

from chatbots.models import Chatbot
from common.tables import Named, checks
from compliance.models.requests import ComplianceRequest
from conversations.models import DailyExtract


class Export(Named):
    """The file of an export request.

    The key and the multipart upload's id are recorded before the first byte is sent, so that the remains of a
    killed worker can be found and removed. The key may contain the chatter's value while the object lives.
    """

    chatbot = models.ForeignKey(Chatbot, on_delete=models.PROTECT, related_name="+", db_index=False)
    request = models.OneToOneField(ComplianceRequest, on_delete=models.PROTECT, related_name="export")
    hosting = models.CharField(max_length=8, default="hosted", help_text="Where the file is, as in Bucket.")
    bucket = models.CharField(max_length=63, blank=True, default="", help_text="The name of a client's bucket.")
    endpoint = models.CharField(
        max_length=200, blank=True, default="", help_text="Endpoint of that bucket; empty for AWS."
    )
    key = models.CharField(
        max_length=1024,
        null=True,
        help_text="Object key; null once the object is removed, or was delivered ERASURE_LEDGER_DAYS ago.",
    )
    upload_id = models.CharField(max_length=1024, null=True, help_text="Id of the multipart upload while it is open.")
    rows = models.BigIntegerField(null=True)
    bytes = models.BigIntegerField(null=True)
    sha256 = models.CharField(max_length=64, null=True, help_text="Lower-case hex.")
    finished_at = models.DateTimeField(null=True)
    expires_at = models.DateTimeField(
        null=True,
        help_text="When the object has to go. A deletion only ever makes it earlier. One that is not finished never "
        "will be once it is set. Null for what lies whole in a client's bucket.",
    )
    last_copy_since = models.DateTimeField(
        null=True,
        help_text="Since when a finished, hosted one holds a conversation that was closed: it cannot be made again.",
    )
    removed_at = models.DateTimeField(null=True)
    was_left_in_former_bucket = models.BooleanField(
        default=False,
        db_default=False,
        help_text="An attempt may have left something in a client's bucket that was not the chatbot's any more.",
    )

    class Meta:
        constraints = [
            models.UniqueConstraint(name="export_key_once_per_chatbot", fields=["chatbot", "key"]),
            *checks(
                export_finished_is_whole=Q(finished_at__isnull=True)
                | Q(rows__isnull=False, bytes__isnull=False, sha256__isnull=False, upload_id__isnull=True),
                export_removed_forgets_key=Q(removed_at__isnull=True) | Q(key__isnull=True),
            ),
        ]
        indexes = [
            # Objects that have expired.
            models.Index(name="export_expiry", fields=["expires_at"], condition=Q(key__isnull=False)),
            # The keys of files that were delivered to clients' buckets, by the time of their removal.
            models.Index(
                name="export_key_kept", fields=["finished_at"], condition=Q(hosting="client", key__isnull=False)
            ),
            # Running exports, and abandoned ones with an object.
            models.Index(
                name="export_unfinished",
                fields=["id"],
                condition=Q(finished_at__isnull=True, key__isnull=False),
            ),
        ]

    @property
    def is_due(self) -> bool:
        """Return whether the export has expired, even if its object still exists."""
        return self.expires_at is not None and self.expires_at <= timezone.now()

    @property
    def is_available(self) -> bool:
        """Return whether the export has not expired, and its object is not removed."""
        return self.key is not None and not self.is_due


class ExportConversation(Named):
    """A conversation in an export, recorded before the first byte is sent and until the object is removed.

    For a file in a client's bucket, the row stays as long as the digests do (ERASURE_LEDGER_DAYS). The conversation
    has no database constraint, which would take its locks in another order than all other code.
    """

    chatbot = models.ForeignKey(Chatbot, on_delete=models.PROTECT, related_name="+", db_index=False)
    export = models.ForeignKey(Export, on_delete=models.CASCADE, related_name="+", db_index=False)
    conversation_id = models.BigIntegerField()  # the conversation's number; no database constraint

    class Meta:
        # Each index has one column: with old statistics, PostgreSQL takes an index with the column in second place
        # for as good, and reads all of it for each conversation. So pairs are not unique, and readers count exports,
        # not rows.
        indexes = [
            # From an erased conversation to the exports that contain it.
            models.Index(name="exportconversation_number", fields=["conversation_id"]),
            models.Index(name="exportconversation_export", fields=["export"]),
        ]


class LeftCopy(Named):
    """A copy that a completed deletion left where it is, for its status: an export or a daily extract.

    It is either in a client's bucket, or an export that a chatter asked for and may still fetch.
    """

    chatbot = models.ForeignKey(Chatbot, on_delete=models.PROTECT, related_name="+", db_index=False)
    deletion = models.ForeignKey(ComplianceRequest, on_delete=models.PROTECT, related_name="+", db_index=False)
    export = models.ForeignKey(Export, on_delete=models.PROTECT, related_name="+", db_index=False, null=True)
    extract = models.ForeignKey(DailyExtract, on_delete=models.PROTECT, related_name="+", db_index=False, null=True)
    is_unfinished = models.BooleanField(
        default=False,
        db_default=False,
        help_text="Left in a client's former bucket by an attempt. The export may be finished elsewhere by now.",
    )

    class Meta:
        verbose_name_plural = "left copies"
        constraints = [
            models.UniqueConstraint(name="leftcopy_export_once", fields=["deletion", "export", "is_unfinished"]),
            models.UniqueConstraint(name="leftcopy_extract_once", fields=["deletion", "extract"]),
            *checks(
                leftcopy_is_one_thing=Q(export__isnull=False, extract__isnull=True)
                | Q(export__isnull=True, extract__isnull=False)
            ),
        ]


class ExportFile(Named):
    """A file beside an export, one object, which is removed with it: a copy of an uploaded file (`include_files`),
    with its number, or a file of one of its formats.
    """

    chatbot = models.ForeignKey(Chatbot, on_delete=models.PROTECT, related_name="+", db_index=False)
    export = models.ForeignKey(Export, on_delete=models.CASCADE, related_name="copies", db_index=False)
    file_id = models.BigIntegerField(null=True)  # the uploaded file's number, as in the CSV; no database constraint
    key = models.CharField(max_length=1024)  # in the export's bucket; it may contain the chatter's value
    bytes = models.BigIntegerField(null=True)
    sha256 = models.CharField(max_length=64, null=True)  # lower-case hex

    class Meta:
        constraints = [models.UniqueConstraint(name="exportfile_once", fields=["export", "key"])]
        indexes = [
            # From an object in the bucket to its row.
            models.Index(name="exportfile_key", fields=["key"]),
        ]

    @property
    def name(self) -> str:
        """The last part of its key, which contains nothing personal."""
        return self.key.rpartition("/")[2]
