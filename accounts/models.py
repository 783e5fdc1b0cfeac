"""Authenticators and log-ins of staff. The users are Django's."""

from django.conf import settings
from django.db import models
from django.db.models.functions import Now
from django_otp.plugins.otp_totp.models import TOTPDevice

from common.crypto import decrypt
from common.tables import Named, checks


class Authenticator(TOTPDevice):  # type: ignore[misc]  # it has no types
    """An authenticator app. Its secret is stored encrypted; `key`, the library's field for it, is always empty."""

    secret_encrypted = models.TextField()

    class Meta:
        # The constraint that `key` is empty is in migration 0002, since the column is the library's.
        constraints = checks(authenticator_secret_not_empty=~models.Q(secret_encrypted=""))

    def __str__(self) -> str:
        return f"authenticator {self.pk}"

    @property
    def bin_key(self) -> bytes:
        """The secret, of 20 bytes. Raises SecretUnreadable (common.crypto)."""
        return bytes.fromhex(decrypt(self.secret_encrypted, bound_to=authenticator_binding(self.user_id)))


def authenticator_binding(user_id: int) -> str:
    """Return what an authenticator's encrypted secret is bound to (`common.crypto`). A user has one."""
    return f"authenticator:{user_id}:secret"


class LoginFailures(Named):
    """Failed log-ins by user, by address, or by both; without either, of an unknown name (`accounts.lockouts`)."""

    key = models.BinaryField(max_length=32, unique=True, editable=False)
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, null=True, related_name="+")
    address = models.GenericIPAddressField(null=True, help_text="Of version 6 the first 64 bits.")
    failures = models.PositiveSmallIntegerField()
    ends_at = models.DateTimeField("counts until", db_index=True)

    class Meta:
        verbose_name = verbose_name_plural = "failed log-ins"


class StaffLogin(Named):
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="+", db_index=False)
    address = models.GenericIPAddressField(null=True, help_text="Of version 6 the first 64 bits.")
    at = models.DateTimeField(db_default=Now(), db_index=True)
    ended_at = models.DateTimeField(null=True)

    class Meta:
        verbose_name = "log-in"
        indexes = [models.Index(name="stafflogin_user_address", fields=["user", "address"])]
