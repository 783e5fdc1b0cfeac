"""The reliability of identities."""

from django.db import models


class Assurance(models.TextChoices):
    """The reliability of a chatter's identity, the weakest first."""

    USER_CHANNEL = "user_channel", "Claimed: it can be forged on the way"
    PLATFORM = "platform", "Said by the platform"
    VERIFIED = "verified", "Verified by the client"

    @property
    def rank(self) -> int:
        return list(Assurance).index(self)
