"""State of storages that all processes share: storages that do not answer, and the checks of buckets."""

from datetime import timedelta

from django.db import models
from django.db.models import Q
from django.db.models.functions import Now

from common.leases import Lease


class SilentStorage(models.Model):
    """A storage that does not answer. Its first answer deletes the row (`chatbots.buckets.silence`).

    Times are by the database's clock.
    """

    chatbot = models.ForeignKey(
        "chatbots.Chatbot",
        null=True,
        on_delete=models.PROTECT,
        related_name="+",
        db_index=False,
        help_text="The owner of the bucket; null for the operator's.",
    )
    since = models.DateTimeField(db_default=Now(), help_text="When it first failed to answer.")
    rests_until = models.DateTimeField(null=True, help_text="No worker calls it before this time.")

    class Meta:
        constraints = [
            models.UniqueConstraint(name="silentstorage_once", fields=["chatbot"], nulls_distinct=False),
        ]

    def __str__(self) -> str:
        return f"silent storage {self.pk}"


class BucketCheck(Lease):
    """A requested check of a chatbot's bucket, carried out by a worker. A new one replaces the previous.

    `steps` has name, permission, code and detail of each step so far; the last two are empty if it succeeded.
    """

    # Renewed at each step, which has one or a few calls. The removal of the test object at the end has two more.
    lease = timedelta(seconds=150)

    chatbot = models.OneToOneField("chatbots.Chatbot", on_delete=models.PROTECT, primary_key=True, related_name="+")
    asked_at = models.DateTimeField(db_default=Now())
    owner = models.CharField(max_length=100, default="", db_default="", help_text="The process that claimed it last.")
    finished_at = models.DateTimeField(null=True)
    steps = models.JSONField(default=list)
    error = models.CharField(max_length=500, blank=True, default="", help_text="Our code and detail.")

    class Meta:
        indexes = [
            models.Index(name="bucketcheck_open", fields=["asked_at"], condition=Q(finished_at__isnull=True)),
        ]

    def __str__(self) -> str:
        return f"check of bucket {self.pk}"
