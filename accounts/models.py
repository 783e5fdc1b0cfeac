"""Staff: their authenticators and their log-ins. The users are Django's."""

from django.conf import settings
from django.db import models
from django.db.models.functions import Now
from django_otp.plugins.otp_totp.models import TOTPDevice

from common.crypto import digest


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
    """How many log-ins have failed, by name, by address, or by both (`accounts.lockouts`).

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
