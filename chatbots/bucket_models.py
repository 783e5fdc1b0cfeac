"""The bucket of a chatbot's files, clients' credentials for it, and the state that all processes share of it."""

from datetime import timedelta

from django.core.validators import RegexValidator
from django.db import models
from django.db.models import Q
from django.db.models.functions import Now

from common.leases import Lease
from common.tables import Named, checks

# Credentials of a chatbot: a new one can be used before the old one is revoked.
MOST_ACTIVE = 2
# The beginning of the names of their IAM users.
USER_PREFIX = "dca-"


class Bucket(Named):
    """The bucket of a chatbot's exports and extracts. Without a row, an export cannot be filed.

    All fields but `hosting` describe a client's own bucket, accessed with an access key or a role of the client.
    """

    class Hosting(models.TextChoices):
        HOSTED = "hosted", "The operator's bucket, below the chatbot's slug"
        CLIENT = "client", "The client's own bucket"

    class Sse(models.TextChoices):
        """Server-side encryption requested for each object, in S3's terms."""

        BUCKET_DEFAULT = "", "As the bucket is set to"
        S3 = "AES256", "With keys of S3"
        KMS = "aws:kms", "With a KMS key"

    chatbot = models.OneToOneField("chatbots.Chatbot", on_delete=models.PROTECT, related_name="bucket")
    hosting = models.CharField(max_length=8, choices=Hosting, default=Hosting.HOSTED)
    bucket = models.CharField(max_length=63, blank=True, default="")
    region = models.CharField(max_length=64, blank=True, default="")
    prefix = models.CharField(max_length=200, blank=True, default="")  # empty, or ends in /
    endpoint = models.CharField(max_length=200, blank=True, default="")  # empty for AWS
    access_key_id = models.CharField(max_length=128, blank=True, default="")
    secret_encrypted = models.TextField(blank=True, default="")  # for the access key; never shown again
    role_arn = models.CharField(max_length=2048, blank=True, default="")
    external_id = models.CharField(max_length=64, blank=True, default="")  # the trust policy of the role names it
    sse = models.CharField(max_length=8, choices=Sse, blank=True, default=Sse.BUCKET_DEFAULT)
    kms_key_id = models.CharField(max_length=2048, blank=True, default="")
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    last_checked_at = models.DateTimeField(null=True, blank=True, editable=False)
    last_error = models.CharField(max_length=500, blank=True, default="")  # our code and detail

    class Meta:
        constraints = [
            # Two chatbots in one location would overwrite each other's files.
            models.UniqueConstraint(
                name="bucket_place_once",
                fields=["bucket", "endpoint", "prefix"],
                condition=Q(hosting="client"),
            ),
            *checks(
                bucket_hosting_known=Q(hosting__in=["hosted", "client"]),
                bucket_settings_fit_hosting=Q(
                    hosting="hosted",
                    bucket="",
                    region="",
                    prefix="",
                    endpoint="",
                    access_key_id="",
                    secret_encrypted="",
                    role_arn="",
                    external_id="",
                    sse="",
                    kms_key_id="",
                )
                | (
                    Q(hosting="client")
                    & ~Q(bucket="")
                    & ~Q(region="")
                    & (
                        (Q(role_arn="", external_id="") & ~Q(access_key_id="") & ~Q(secret_encrypted=""))
                        | (Q(access_key_id="", secret_encrypted="") & ~Q(role_arn="") & ~Q(external_id=""))
                    )
                ),
                bucket_prefix_is_folder=Q(prefix="") | Q(prefix__endswith="/"),
                bucket_sse_known=Q(sse__in=["", "AES256", "aws:kms"]),
                bucket_kms_key_fits_sse=Q(kms_key_id="") | Q(sse="aws:kms"),
            ),
        ]


class BucketCredential(Named):
    """An access key of a client for its folder of the hosted bucket. Its secret is stored nowhere.

    The row is older than its IAM user and outlives it. Until `active_at` it is being issued; since `revoking_at` it
    is being revoked. A row that stays in one of these states was interrupted: revoking it removes what there is.
    """

    class Origin(models.TextChoices):
        ISSUED = "issued", "Issued by the service"
        BY_HAND = "by_hand", "Created by hand"

    id = models.UUIDField(primary_key=True)  # UUIDv7
    chatbot = models.ForeignKey("chatbots.Chatbot", on_delete=models.PROTECT, related_name="bucket_credentials")
    origin = models.CharField(max_length=8, choices=Origin)
    label = models.CharField(max_length=100, blank=True, default="")
    # Not secret.
    access_key_id = models.CharField(
        max_length=128,
        blank=True,
        default="",
        validators=[
            RegexValidator(r"^[A-Za-z0-9_.@:+-]*\Z", "Use the id of an access key: letters, digits and ._@:+-")
        ],
    )
    place = models.PositiveSmallIntegerField()  # numbers those that are not revoked
    created_by = models.CharField(max_length=64)  # as in the change log
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    active_at = models.DateTimeField(null=True, blank=True)  # when it had proved to grant reading these files alone
    revoking_at = models.DateTimeField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True)
    failure = models.CharField(max_length=500, blank=True, default="")  # why it was not issued, in our words

    class Meta:
        constraints = [
            models.UniqueConstraint(
                name="bucketcredential_place_once", fields=["chatbot", "place"], condition=Q(revoked_at__isnull=True)
            ),
            models.UniqueConstraint(
                name="bucketcredential_key_once",
                fields=["access_key_id"],
                condition=~Q(access_key_id="") & Q(revoked_at__isnull=True),
            ),
            *checks(
                bucketcredential_origin_known=Q(origin__in=["issued", "by_hand"]),
                bucketcredential_few=Q(place__range=(1, MOST_ACTIVE)),
                bucketcredential_active_has_key=Q(active_at__isnull=True) | ~Q(access_key_id=""),
            ),
        ]

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


class SilentStorage(Named):
    """A storage that does not answer. Its first answer deletes the row (`chatbots.buckets.silence`).

    Times are by the database's clock.
    """

    # The owner of the bucket; null for the operator's.
    chatbot = models.ForeignKey(
        "chatbots.Chatbot", null=True, on_delete=models.PROTECT, related_name="+", db_index=False
    )
    since = models.DateTimeField(db_default=Now())  # when it first failed to answer
    rests_until = models.DateTimeField(null=True)  # no worker calls it before this time

    class Meta:
        constraints = [
            models.UniqueConstraint(name="silentstorage_once", fields=["chatbot"], nulls_distinct=False),
        ]


class BucketCheck(Lease):
    """A requested check of a chatbot's bucket, carried out by a worker. A new one replaces the previous.

    `steps` has name, permission, code and detail of each step so far; the last two are empty if it succeeded.
    """

    # Renewed at each step, which has one or a few calls. The removal of the test object at the end has two more.
    lease = timedelta(seconds=150)

    chatbot = models.OneToOneField("chatbots.Chatbot", on_delete=models.PROTECT, primary_key=True, related_name="+")
    asked_at = models.DateTimeField(db_default=Now())
    owner = models.CharField(max_length=100, default="", db_default="")  # the process that claimed it last
    finished_at = models.DateTimeField(null=True)
    steps = models.JSONField(default=list)
    error = models.CharField(max_length=500, blank=True, default="")  # our code and detail

    class Meta:
        indexes = [
            models.Index(name="bucketcheck_open", fields=["asked_at"], condition=Q(finished_at__isnull=True)),
        ]
