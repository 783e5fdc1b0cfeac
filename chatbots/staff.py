"""Staff: what they may do with which chatbot, and their log-ins."""

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.db.models.functions import Now
from django_otp.plugins.otp_totp.models import TOTPDevice

from common.crypto import digest


class Membership(models.Model):
    """What one staff user may do with one chatbot. Superusers need none."""

    class Role(models.TextChoices):
        VIEWER = "viewer", "Viewer"
        SUPPORT = "support", "Support"
        OFFICER = "officer", "Officer"

    chatbot = models.ForeignKey("chatbots.Chatbot", on_delete=models.PROTECT, related_name="memberships")
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="memberships")
    role = models.CharField(max_length=8, choices=Role)
    mails = models.BooleanField(
        default=True, help_text="Whether an officer gets mails of what fails, is held or gets late. Their own choice."
    )

    class Meta:
        constraints = [
            models.UniqueConstraint(name="membership_one_role_per_chatbot", fields=["user", "chatbot"]),
            models.CheckConstraint(
                name="membership_role_known", condition=Q(role__in=["viewer", "support", "officer"])
            ),
        ]

    def __str__(self) -> str:
        return f"membership {self.pk}"


class Authenticator(TOTPDevice):  # type: ignore[misc]  # it has no types
    """The app that shows a staff user's codes. Its secret is not stored: a dump of the database makes no codes."""

    class Meta:
        proxy = True

    def __str__(self) -> str:
        return f"authenticator {self.pk}"

    @property
    def bin_key(self) -> bytes:
        """The secret, derived from the stored seed under `DIGEST_KEY`; of 20 bytes, as apps know it."""
        return digest("authenticator", self.user_id, super().bin_key)[:20]


class LoginFailures(models.Model):
    """How many log-ins have failed, by name, by address, or by both (`chatbots.access.lockouts`).

    `user` and `address` say what is counted; without both it is a name that nobody has.
    """

    key = models.BinaryField(max_length=32, unique=True, editable=False)
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, null=True, related_name="+")
    address = models.GenericIPAddressField(null=True, help_text="Of version 6 the first 64 bits.")
    failures = models.PositiveSmallIntegerField()
    ends_at = models.DateTimeField("counts until", db_index=True)

    class Meta:
        verbose_name = verbose_name_plural = "failed log-ins"

    def __str__(self) -> str:
        return f"failed log-ins {self.pk}"


class StaffLogin(models.Model):
    """That a staff user logged in: when, from where, and when they logged out if they did."""

    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="+", db_index=False)
    address = models.GenericIPAddressField(null=True, help_text="Of version 6 the first 64 bits.")
    at = models.DateTimeField(db_default=Now(), db_index=True)
    ended_at = models.DateTimeField(null=True)

    class Meta:
        verbose_name = "log-in"
        indexes = [models.Index(name="stafflogin_user_address", fields=["user", "address"])]

    def __str__(self) -> str:
        return f"log-in {self.pk}"
