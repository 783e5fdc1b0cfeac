"""The conversations of requests by conversation ids."""

from django.db import models

from chatbots.models import Chatbot
from compliance.models.requests import ComplianceRequest


class RequestSubject(models.Model):
    """A conversation of a request, by the keyed digest of the platform's id.

    Code that stores or removes these rows sets the request's `named_conversations` in the same transaction.
    """

    request = models.ForeignKey(ComplianceRequest, on_delete=models.CASCADE, related_name="subjects", db_index=False)
    chatbot = models.ForeignKey(Chatbot, on_delete=models.PROTECT, related_name="+", db_index=False)
    digest = models.BinaryField(max_length=32)

    class Meta:
        # Each index has one column, as those of ExportConversation: with old statistics PostgreSQL reads one of both
        # whole. So pairs are not unique, but filing refuses an id that is given twice.
        indexes = [
            models.Index(name="requestsubject_request", fields=["request"]),
            models.Index(name="requestsubject_digest", fields=["digest"]),
        ]

    def __str__(self) -> str:
        return f"subject {self.pk}"
