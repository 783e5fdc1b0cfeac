"""Notes of staff on decisions. They may contain personal data, so erasure empties them."""

from django.db import models
from django.db.models import Q
from django.db.models.functions import Now

from chatbots.models import Chatbot
from compliance.models.requests import ComplianceRequest

MOST_CHARACTERS = 1_000


class RequestNote(models.Model):
    """The note of one decision; its entry in the change log has the actor, time and reason.

    The text is emptied when a deletion of the same chatter completes, at the latest after ERASURE_LEDGER_DAYS;
    the row stays.
    """

    chatbot = models.ForeignKey(Chatbot, on_delete=models.PROTECT, related_name="+", db_index=False)
    request = models.ForeignKey(ComplianceRequest, on_delete=models.PROTECT, related_name="notes", db_index=False)
    entry_id = models.BigIntegerField(help_text="The decision's entry of the change log; no database constraint.")
    text = models.CharField(max_length=MOST_CHARACTERS, null=True, help_text="Null once erased.")
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        indexes = [
            # Those that hold something, by when it has to go; also tells at once whether there is any.
            models.Index(name="requestnote_kept", fields=["created_at"], condition=Q(text__isnull=False)),
        ]
        constraints = [
            # Also finds a request's notes.
            models.UniqueConstraint(name="requestnote_once", fields=["request", "entry_id"]),
            models.CheckConstraint(name="requestnote_says_something", condition=~Q(text="")),
        ]

    def __str__(self) -> str:
        return f"note {self.pk}"
