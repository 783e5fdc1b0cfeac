"""The daily files of a chatbot, and the erased conversations that they contained."""

from datetime import timedelta

from django.db import models
from django.db.models import F, Q
from django.db.models.functions import Now

from chatbots.models import Chatbot
from common.leases import Lease
from common.tables import Named, checks


class DailyExtract(Lease):
    """The file of one day's messages of a chatbot.

    `day` is in the chatbot's time zone. Its instants are fixed when the row is created, so that a later change of the
    time zone makes no message fall into two files or between them. The key and the multipart upload's id are
    recorded before the first byte is sent.
    """

    # As for a claim of requests: long enough for the slowest storage call with its retries.
    lease = timedelta(seconds=90)

    class State(models.TextChoices):
        PENDING = "pending", "To be built"
        DONE = "done", "Done"
        STALE = "stale", "To be rebuilt"
        FAILED = "failed", "Failed"
        EXPIRED = "expired", "Expired"

    chatbot = models.ForeignKey(Chatbot, on_delete=models.PROTECT, related_name="+", db_index=False)
    day = models.DateField()
    starts_at = models.DateTimeField()
    ends_at = models.DateTimeField(help_text="The first instant after the day.")
    state = models.CharField(max_length=8, choices=State, default=State.PENDING)
    version = models.PositiveIntegerField(
        default=1, help_text="Raised by each erasure and late message, after which a file read before is stale."
    )
    made_version = models.PositiveIntegerField(
        null=True, help_text="The version at which the file was read. In a client's bucket it may not be finished."
    )
    hosting = models.CharField(max_length=8, default="hosted", help_text="Where the file is, as in Bucket.")
    bucket = models.CharField(max_length=63, blank=True, default="", help_text="The name of a client's bucket.")
    key = models.CharField(max_length=1024, null=True, help_text="Object key; null once the object is removed.")
    was_left_in_former_bucket = models.BooleanField(
        default=False, db_default=False, help_text="A file of it may be in a client's bucket that it left."
    )
    upload_id = models.CharField(max_length=1024, null=True, help_text="Id of the multipart upload while it is open.")
    rows = models.BigIntegerField(null=True)
    bytes = models.BigIntegerField(null=True)
    sha256 = models.CharField(max_length=64, null=True, help_text="Lower-case hex.")
    finished_at = models.DateTimeField(null=True)
    expires_at = models.DateTimeField(null=True)
    stale_at = models.DateTimeField(null=True, help_text="Since when the file is stale.")
    owner = models.CharField(max_length=100, default="", db_default="", help_text="The process that last took it.")
    attempts = models.PositiveSmallIntegerField(default=0)
    error_code = models.CharField(max_length=64, blank=True, default="")
    error_detail = models.CharField(max_length=500, blank=True, default="", help_text="Ours, never a library's text.")
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        constraints = [
            models.UniqueConstraint(name="dailyextract_once_per_day", fields=["chatbot", "day"]),
            *checks(
                dailyextract_state_known=Q(state__in=["pending", "done", "stale", "failed", "expired"]),
                dailyextract_done_is_whole=~Q(state="done")
                | Q(
                    rows__isnull=False,
                    bytes__isnull=False,
                    sha256__isnull=False,
                    finished_at__isnull=False,
                    key__isnull=False,
                    upload_id__isnull=True,
                    made_version=F("version"),
                ),
                dailyextract_failed_has_error=~Q(state="failed") | ~Q(error_code=""),
                dailyextract_day_has_length=Q(starts_at__lt=F("ends_at")),
            ),
        ]
        indexes = [
            # Extracts that must be built or rebuilt.
            models.Index(name="dailyextract_due", fields=["id"], condition=Q(state__in=["pending", "stale"])),
            # Failed extracts, the newest first.
            models.Index(F("id").desc(), name="dailyextract_failed", condition=Q(state="failed")),
            # Objects that have expired.
            models.Index(name="dailyextract_expiry", fields=["expires_at"], condition=Q(key__isnull=False)),
        ]


class ExtractConversation(Named):
    """Erased messages of a conversation that the file of a day may contain.

    A hosted file does not contain them any more once it is built from `version` or a later one; deletions wait for
    that. A file in a client's bucket belongs to the client, and is only reported.
    """

    chatbot = models.ForeignKey(Chatbot, on_delete=models.PROTECT, related_name="+", db_index=False)
    conversation_id = models.BigIntegerField()  # the conversation's number; no database constraint
    extract = models.ForeignKey(DailyExtract, on_delete=models.CASCADE, related_name="+", db_index=False)
    version = models.PositiveIntegerField()

    class Meta:
        constraints = [
            # Also finds the days of a conversation.
            models.UniqueConstraint(name="extractconversation_once", fields=["conversation_id", "extract"]),
        ]
