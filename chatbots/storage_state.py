"""What all processes know of a storage: that it does not answer, and what a check of it has found."""

from django.db import models
from django.db.models import Q
from django.db.models.functions import Now


class SilentStorage(models.Model):
    """That a storage does not answer. The row goes with its first answer (`chatbots.buckets.silence`).

    All times are the database's clock.
    """

    chatbot = models.ForeignKey(
        "chatbots.Chatbot",
        null=True,
        on_delete=models.PROTECT,
        related_name="+",
        db_index=False,
        help_text="Whose bucket it is; null for the operator's.",
    )
    since = models.DateTimeField(db_default=Now(), help_text="When it was first found not to answer.")
    rests_until = models.DateTimeField(null=True, help_text="No worker calls it before.")

    class Meta:
        constraints = [
            models.UniqueConstraint(name="silentstorage_once", fields=["chatbot"], nulls_distinct=False),
        ]

    def __str__(self) -> str:
        return f"silent storage {self.pk}"


class BucketCheck(models.Model):
    """A check of a chatbot's bucket that somebody has asked for: one a bucket, the next takes its place.

    A worker carries it out. `steps` is what it has tried so far, in our words: name, permission, code and detail of
    each, the last two empty where it went well.
    """

    chatbot = models.OneToOneField("chatbots.Chatbot", on_delete=models.PROTECT, primary_key=True, related_name="+")
    token = models.UUIDField(help_text="Of this asking: what a former one found is not written.")
    asked_at = models.DateTimeField(db_default=Now())
    claimed_until = models.DateTimeField(null=True, help_text="A worker is at it; by the database's clock.")
    owner = models.CharField(max_length=100, default="", db_default="", help_text="The process that had it last.")
    finished_at = models.DateTimeField(null=True)
    steps = models.JSONField(default=list)
    error = models.CharField(max_length=500, blank=True, default="", help_text="Code and detail, ours.")

    class Meta:
        indexes = [
            models.Index(name="bucketcheck_open", fields=["asked_at"], condition=Q(finished_at__isnull=True)),
        ]

    def __str__(self) -> str:
        return f"check of bucket {self.pk}"
