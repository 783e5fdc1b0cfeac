"""Credentials with which a client reads its files in the operator's bucket."""

from django.core.validators import RegexValidator
from django.db import models
from django.db.models import Q
from django.db.models.functions import Now

# A new one can be used before the old one is revoked.
MOST_ACTIVE = 2
# The beginning of the names of their IAM users.
USER_PREFIX = "dca-"


class BucketCredential(models.Model):
    """An access key of a client for its folder of the hosted bucket. Its secret is stored nowhere.

    The row is older than its IAM user and outlives it. Until `active_at` it is being issued; since `revoking_at` it
    is being revoked. A row that stays in one of these states was interrupted: revoking it removes what there is.
    """

    class Origin(models.TextChoices):
        ISSUED = "issued", "Issued by the service"
        BY_HAND = "by_hand", "Created by hand"

    id = models.UUIDField(primary_key=True, help_text="UUIDv7.")
    chatbot = models.ForeignKey("chatbots.Chatbot", on_delete=models.PROTECT, related_name="bucket_credentials")
    origin = models.CharField(max_length=8, choices=Origin)
    label = models.CharField(max_length=100, blank=True, default="")
    access_key_id = models.CharField(
        max_length=128,
        blank=True,
        default="",
        validators=[
            RegexValidator(r"^[A-Za-z0-9_.@:+-]*\Z", "Use the id of an access key: letters, digits and ._@:+-")
        ],
        help_text="Not secret.",
    )
    place = models.PositiveSmallIntegerField(help_text="Numbers those that are not revoked.")
    created_by = models.CharField(max_length=64, help_text="As in the change log.")
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    active_at = models.DateTimeField(
        null=True, blank=True, help_text="When it had proved to grant reading these files alone."
    )
    revoking_at = models.DateTimeField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True)
    failure = models.CharField(
        max_length=500, blank=True, default="", help_text="Why it was not issued, in our words."
    )

    class Meta:
        constraints = [
            models.CheckConstraint(
                name="bucketcredential_origin_known", condition=Q(origin__in=["issued", "by_hand"])
            ),
            models.CheckConstraint(name="bucketcredential_few", condition=Q(place__range=(1, MOST_ACTIVE))),
            models.UniqueConstraint(
                name="bucketcredential_place_once", fields=["chatbot", "place"], condition=Q(revoked_at__isnull=True)
            ),
            models.UniqueConstraint(
                name="bucketcredential_key_once",
                fields=["access_key_id"],
                condition=~Q(access_key_id="") & Q(revoked_at__isnull=True),
            ),
            models.CheckConstraint(
                name="bucketcredential_active_has_key",
                condition=Q(active_at__isnull=True) | ~Q(access_key_id=""),
            ),
        ]

    def __str__(self) -> str:
        return f"bucket credential {self.pk}"

    @property
    def user_name(self) -> str:
        """The name of its IAM user. Empty if the user was created by hand."""
        return f"{USER_PREFIX}{self.pk.hex}" if self.origin == self.Origin.ISSUED else ""

    @property
    def state(self) -> str:
        """`active`, `revoked`, or the step that runs, or was interrupted: `issuing`, `revoking`.

        `not_issued` credentials were removed because the trial or IAM failed.
        """
        if self.revoked_at is not None:
            return "revoked" if self.active_at is not None else "not_issued"
        if self.revoking_at is not None:
            return "revoking"
        return "active" if self.active_at is not None else "issuing"

    @property
    def is_unfinished(self) -> bool:
        """Whether issuing or revoking it runs, or was interrupted."""
        return self.state in {"issuing", "revoking"}
