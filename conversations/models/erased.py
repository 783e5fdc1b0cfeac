"""Records of erased data, and of later identities of erased chatters."""

from django.db import models
from django.db.models import F, Q
from django.db.models.functions import Now

from chatbots.models import Chatbot, Variable
from common.tables import Named, checks
from conversations.models.conversations import EARLIEST, Identity, _OfConversation


class Tombstone(Named):
    """An erased chatter, conversation or message, by keyed digest: intake refuses it, or stores it as redacted.

    A deletion's mark writes the tombstone of its chatter. An erased conversation and a redacted message are their own
    tombstones while their rows exist. After a restore the rows can be missing. Then a replay writes their tombstones.
    """

    class Kind(models.TextChoices):
        CHATTER = "chatter", "An erased chatter"
        CONVERSATION = "conversation", "An erased conversation without a row"
        MESSAGE = "message", "A redacted message without a row"

    chatbot = models.ForeignKey(Chatbot, on_delete=models.PROTECT, related_name="+", db_index=False)
    kind = models.CharField(max_length=12, choices=Kind, default=Kind.CHATTER, db_default=Kind.CHATTER)
    variable = models.ForeignKey(
        Variable, on_delete=models.DO_NOTHING, related_name="+", db_constraint=False, db_index=False, null=True
    )
    digest = models.BinaryField(max_length=32)  # of the UCI value, or of the platform's id
    conversation_digest = models.BinaryField(max_length=32, null=True)  # of a message's conversation
    erased_at = models.DateTimeField(db_default=Now())  # when the erasure began
    cutoff_at = models.DateTimeField(null=True)  # of a chatter: conversations begun before are refused
    # Of a chatter: stored conversations up to this number are closed.
    cutoff_number = models.BigIntegerField(null=True)
    request_id = models.UUIDField()
    expires_at = models.DateTimeField()

    class Meta:
        constraints = [
            # Intake uses it too. A digest covers its kind and its variable.
            models.UniqueConstraint(name="tombstone_once_per_request", fields=["chatbot", "digest", "request_id"]),
            *checks(
                tombstone_is_of_its_kind=Q(
                    kind="chatter",
                    variable__isnull=False,
                    conversation_digest__isnull=True,
                    cutoff_at__isnull=False,
                    cutoff_number__isnull=False,
                )
                | Q(
                    Q(kind="conversation", conversation_digest__isnull=True)
                    | Q(kind="message", conversation_digest__isnull=False),
                    variable__isnull=True,
                    cutoff_at__isnull=True,
                    cutoff_number__isnull=True,
                )
            ),
        ]
        indexes = [
            models.Index(
                name="tombstone_of_message",
                fields=["chatbot", "conversation_digest"],
                condition=Q(conversation_digest__isnull=False),
            ),
            models.Index(name="tombstone_expiry", fields=["expires_at"]),
        ]


class RefusedIdentity(_OfConversation):
    """An identity that was refused since its chatter was erased: an officer decides about the conversation.

    `request_id` is that of the erasure. Neither the value nor its digest is kept. The row is removed with its
    conversation, or with the chatter's tombstone.
    """

    request_id = models.UUIDField()
    way = models.CharField(max_length=12, choices=Identity.EstablishedBy)
    at = models.DateTimeField(db_default=Now(), editable=False)
    expires_at = models.DateTimeField()

    class Meta:
        verbose_name_plural = "refused identities"
        constraints = [
            # Also finds the rows of a conversation.
            models.UniqueConstraint(name="refusedidentity_once", fields=["conversation", "request_id", "chatbot"]),
            *checks(
                refusedidentity_way_known=Q(way__in=["user_channel", "custom", "asserted", "signed", "resolved"])
            ),
        ]
        indexes = [
            # The list of a chatbot, newest first. An erasure has no condition on the time: see EARLIEST.
            models.Index(F("chatbot"), F("id").desc(), name="refusedidentity_newest", condition=Q(at__gt=EARLIEST)),
            models.Index(name="refusedidentity_expiry", fields=["expires_at"]),
        ]
