"""The messages of a redaction, and the exports that were filed again because of one."""

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import Q

from chatbots.models import Chatbot
from common.tables import Named, checks
from compliance.models.requests import ComplianceRequest

MOST_MESSAGES = 100


class Redaction(Named):
    """What a redaction empties in one conversation: messages, by our numbers, and the CSAT comment.

    Messages and conversation are themselves marked as redacted, as long as the conversation is stored.
    """

    class Reason(models.TextChoices):
        PAYMENT_DATA = "payment_data", "Payment data, such as a card number"
        CREDENTIALS = "credentials", "A password or another secret"
        IDENTITY_DOCUMENT = "identity_document", "An identity document, or its number"
        SENSITIVE_DATA = "sensitive_data", "Health data, or other sensitive data"
        OTHER_PERSON = "other_person", "Data of another person"
        OTHER = "other", "Another reason"

    request = models.OneToOneField(ComplianceRequest, on_delete=models.PROTECT, related_name="redaction")
    chatbot = models.ForeignKey(Chatbot, on_delete=models.PROTECT, related_name="+", db_index=False)
    conversation_id = models.BigIntegerField()  # the conversation's number; no database constraint
    # The messages' numbers, 1 to 100, or none with `csat_comment`; no database constraint.
    message_numbers = ArrayField(models.BigIntegerField())
    # Whether it redacts the conversation's CSAT comment.
    csat_comment = models.BooleanField(default=False, db_default=False)
    reason = models.CharField(max_length=24, choices=Reason)

    class Meta:
        constraints = checks(
            redaction_names_something=Q(message_numbers__len__range=(1, MOST_MESSAGES))
            | Q(message_numbers__len=0, csat_comment=True),
            redaction_reason_known=Q(
                reason__in=[
                    "payment_data",
                    "credentials",
                    "identity_document",
                    "sensitive_data",
                    "other_person",
                    "other",
                ]
            ),
        )
        indexes = [
            # From a conversation that is exported to its redactions.
            models.Index(name="redaction_conversation", fields=["conversation_id"]),
        ]


class RepeatedExport(Named):
    """A finished hosted export that a redaction removed, and the export that was filed in its place.

    No export was filed if the subject is not known any more.
    """

    chatbot = models.ForeignKey(Chatbot, on_delete=models.PROTECT, related_name="+", db_index=False)
    redaction = models.ForeignKey(
        ComplianceRequest, on_delete=models.PROTECT, related_name="removed_exports", db_index=False
    )
    removed = models.OneToOneField(ComplianceRequest, on_delete=models.PROTECT, related_name="repeated_by")
    repeat = models.OneToOneField(ComplianceRequest, on_delete=models.PROTECT, related_name="repeats", null=True)

    class Meta:
        indexes = [models.Index(name="repeatedexport_redaction", fields=["redaction"])]
