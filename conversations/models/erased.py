"""Erased chatters as they are remembered, and what names one of them afterwards."""

from django.db import models
from django.db.models import F, Q
from django.db.models.functions import Now

from chatbots.models import Chatbot, Variable
from conversations.models.conversations import EARLIEST, Conversation, Identity


class ErasedChatter(models.Model):
    """An erased chatter, by keyed digest: written with the mark, read by intake to refuse late messages."""

    chatbot = models.ForeignKey(Chatbot, on_delete=models.PROTECT, related_name="+", db_index=False)
    variable = models.ForeignKey(
        Variable, on_delete=models.DO_NOTHING, related_name="+", db_constraint=False, db_index=False
    )
    digest = models.BinaryField(max_length=32)
    cutoff_at = models.DateTimeField(help_text="Conversations begun before this are refused.")
    cutoff_number = models.BigIntegerField(help_text="Stored conversations up to this number are closed.")
    request_id = models.UUIDField()
    expires_at = models.DateTimeField()

    class Meta:
        constraints = [
            models.UniqueConstraint(name="erasedchatter_once_per_request", fields=["request_id", "chatbot"]),
        ]
        indexes = [
            models.Index(name="erasedchatter_chatter", fields=["chatbot", "variable", "digest"]),
            models.Index(name="erasedchatter_expiry", fields=["expires_at"]),
        ]

    def __str__(self) -> str:
        return f"erased chatter {self.pk}"


class RefusedIdentity(models.Model):
    """An identity that was refused since it names an erased chatter: an officer decides about the conversation.

    `request_id` is that of the erasure. Neither the value nor its digest is kept. It goes with its conversation, or
    with the ErasedChatter.
    """

    chatbot = models.ForeignKey(
        Chatbot, on_delete=models.DO_NOTHING, related_name="+", db_constraint=False, db_index=False
    )
    conversation = models.ForeignKey(Conversation, on_delete=models.DO_NOTHING, db_constraint=False, db_index=False)
    request_id = models.UUIDField()
    way = models.CharField(max_length=12, choices=Identity.EstablishedBy)
    at = models.DateTimeField(db_default=Now(), editable=False)
    expires_at = models.DateTimeField()

    class Meta:
        verbose_name_plural = "refused identities"
        constraints = [
            # Also finds those of a conversation.
            models.UniqueConstraint(name="refusedidentity_once", fields=["conversation", "request_id", "chatbot"]),
            models.CheckConstraint(
                name="refusedidentity_way_known",
                condition=Q(way__in=["user_channel", "custom", "asserted", "signed", "resolved"]),
            ),
        ]
        indexes = [
            # The list of a chatbot, newest first. An erasure does not ask for a time: see EARLIEST.
            models.Index(F("chatbot"), F("id").desc(), name="refusedidentity_newest", condition=Q(at__gt=EARLIEST)),
            models.Index(name="refusedidentity_expiry", fields=["expires_at"]),
        ]

    def __str__(self) -> str:
        return f"refused identity {self.pk}"
