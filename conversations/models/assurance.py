"""How far identities can be relied on."""

from django.db import models


class Assurance(models.TextChoices):
    """How far a chatter's identity can be relied on, the weakest first."""

    USER_CHANNEL = "user_channel", "Claimed: it can be forged on the way"
    PLATFORM = "platform", "Said by the platform"
    VERIFIED = "verified", "Verified by the client"

    @property
    def rank(self) -> int:
        return list(Assurance).index(self)
