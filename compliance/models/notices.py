"""Notices for officers, and the state of their mails."""

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.db.models.functions import Now

from chatbots.models import Chatbot
from compliance.models.requests import ComplianceRequest


class Notice(models.Model):
    """An event of a request for its officers. Ids are in the order in which notices become visible.

    One that failed again after a retry, or was held again, is another event.
    """

    class Event(models.TextChoices):
        FAILED = "failed", "Failed"
        ON_HOLD = "on_hold", "On hold"
        DUE_SOON = "due_soon", "Due soon"
        OVERDUE = "overdue", "Overdue"

    chatbot = models.ForeignKey(Chatbot, on_delete=models.PROTECT, related_name="+", db_index=False)
    request = models.ForeignKey(ComplianceRequest, on_delete=models.PROTECT, related_name="+", db_index=False)
    event = models.CharField(max_length=8, choices=Event)
    occurred_at = models.DateTimeField(help_text="When it failed, was held, or is due.")
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        constraints = [
            models.UniqueConstraint(name="notice_once", fields=["request", "event", "occurred_at"]),
            models.CheckConstraint(
                name="notice_event_known", condition=Q(event__in=["failed", "on_hold", "due_soon", "overdue"])
            ),
        ]
        # What is new of a chatbot.
        indexes = [models.Index(name="notice_of_chatbot", fields=["chatbot", "id"])]

    def __str__(self) -> str:
        return f"notice {self.pk}"


class Mailbox(models.Model):
    """The last notice that an officer got, and when the next mail may be sent. Times are the database's."""

    user = models.OneToOneField(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, primary_key=True, related_name="mailbox"
    )
    last_notified_id = models.BigIntegerField(
        default=0, help_text="The last notice that was mailed, or was over before it was."
    )
    next_at = models.DateTimeField(db_default=Now(), help_text="No mail goes out earlier.")
    mailed_at = models.DateTimeField(null=True)
    attempts = models.PositiveIntegerField(default=0, help_text="That failed, since the last mail went out.")
    last_error = models.CharField(max_length=32, blank=True, default="", help_text="Ours, never a library's text.")
    token = models.UUIDField(null=True, help_text="Fencing token of who writes the mail.")
    claimed_until = models.DateTimeField(null=True)

    def __str__(self) -> str:
        return f"mailbox {self.pk}"
