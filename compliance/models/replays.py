"""Calls that were answered, so that the same call again has the same answer."""

from django.db import models

from chatbots.models import Chatbot
from compliance.models.requests import ComplianceRequest


class Replay(models.Model):
    """A call that was answered: the same call on the same path gets the same request for an answer."""

    chatbot = models.ForeignKey(Chatbot, on_delete=models.PROTECT, related_name="+", db_index=False)
    path = models.CharField(max_length=200)
    digest = models.BinaryField(max_length=32, help_text="Keyed digest of the signature or Idempotency-Key.")
    body_digest = models.BinaryField(max_length=32, help_text="Keyed digest of the body.")
    request = models.ForeignKey(ComplianceRequest, on_delete=models.PROTECT, related_name="+", db_index=False)
    existing = models.BooleanField(
        default=False, db_default=False, help_text="Whether an equal export, filed before, was the answer."
    )
    expires_at = models.DateTimeField()

    class Meta:
        constraints = [
            models.UniqueConstraint(name="replay_once", fields=["chatbot", "path", "digest"]),
        ]
        indexes = [models.Index(name="replay_expiry", fields=["expires_at"])]

    def __str__(self) -> str:
        return f"replay {self.pk}"
