"""The owners of the data: chatbots, their variables, keys, buckets and members, and the change log.

These tables hold no personal data of chatters. Invariants are database constraints; the triggers are in migration
0002 (append-only change log, no removal of a UCI, immutable public ids).
"""

from django.conf import settings
from django.core.validators import RegexValidator
from django.db import models
from django.db.models import F, Q
from django.db.models.functions import Now
from uuid_utils.compat import uuid7

from chatbots.api_keys import ApiKey
from chatbots.callback_urls import CALLBACK_URL
from chatbots.credentials import BucketCredential
from chatbots.resolvers import Resolver
from chatbots.storage_state import BucketCheck, SilentStorage
from common.texts import is_storable

# Models in modules of their own.
__all__ = ["ApiKey", "BucketCheck", "BucketCredential", "Resolver", "SilentStorage"]

# A chatbot's rule for deadlines (`compliance.deadlines`): one of these, or a number of days.
GDPR, CCPA = "gdpr", "ccpa"
MOST_DAYS_OF_DEADLINE = 365
DEADLINE = r"^(gdpr|ccpa|[1-9]|[1-9][0-9]|[12][0-9]{2}|3[0-5][0-9]|36[0-5])$"

# Characters of a UCI value.
MAX_UCI_LENGTH = 512
# Days of a retention period.
SHORTEST_RETENTION, LONGEST_RETENTION = 1, 3_650


def uci_value_fault(value: str) -> str | None:
    """Return a sentence with the fault of a UCI value from any source, or None. It never quotes the value."""
    if value in settings.UCI_PLACEHOLDERS:
        return "This value is a placeholder that identifies no one."
    if len(value) > MAX_UCI_LENGTH or not is_storable(value):
        return f"The value must be 1 to {MAX_UCI_LENGTH} characters, without NUL or unpaired surrogates."
    return None


# In the hosted bucket, beside the folders of chatbots.
SERVICE_FOLDERS = ["uploads", "erasure_ledger"]


class Chatbot(models.Model):
    class RetentionDays(models.IntegerChoices):
        """The product's list of periods. Any other number of days may be chosen, too."""

        MONTHS_3 = 90, "3 months"
        MONTHS_6 = 180, "6 months"
        MONTHS_12 = 365, "12 months"
        MONTHS_24 = 730, "24 months"
        MONTHS_36 = 1095, "36 months"

    class ExportAssurance(models.TextChoices):
        """The reliability of a chatter's identity that an export by it requires: `conversations.models.Assurance`."""

        ANY = "any", "All conversations"
        PLATFORM = "platform", "Said by the platform, or verified"
        VERIFIED = "verified", "Verified only"

    class CsvDialect(models.TextChoices):
        """The format of an export's file (`conversations.csv_cells`)."""

        STANDARD = "standard", "Standard: for programs"
        EXCEL_COMMA = "excel_comma", "Excel, separated by commas"
        EXCEL_SEMICOLON = "excel_semicolon", "Excel, separated by semicolons"

    public_id = models.UUIDField(
        default=uuid7, unique=True, editable=False, help_text="Identifies it in digests and the erasure ledger."
    )
    slug = models.SlugField(max_length=64, unique=True)
    name = models.CharField(max_length=200)
    timezone = models.CharField(max_length=64, default="UTC", help_text="An IANA name such as Europe/Paris.")
    compliance_enabled = models.BooleanField(default=False, help_text="Whether deletions and exports may be filed.")
    retention_days = models.PositiveSmallIntegerField(null=True, blank=True)
    retention_set_at = models.DateTimeField(
        null=True,
        editable=False,
        help_text="Runs that were filed earlier are of another period. Null after a restore, until staff confirm it.",
    )
    extracts_enabled = models.BooleanField(default=False)
    max_conversations_per_deletion = models.PositiveIntegerField(
        default=1000, help_text="Deletions of more than this are held for approval."
    )
    four_eyes = models.BooleanField(
        default=False, help_text="Whether each deletion needs the approval of another person."
    )
    require_action = models.BooleanField(
        default=False,
        help_text='Whether a request must carry "action", so that a captured one cannot be sent to another path.',
    )
    token_names_conversation = models.BooleanField(
        default=False,
        db_default=False,
        help_text="Whether an identity token must name its conversation, so that one that leaked fits no other.",
    )
    grace_minutes = models.PositiveIntegerField(
        default=0, help_text="How long a request can be cancelled before it starts."
    )
    export_assurance = models.CharField(
        max_length=8,
        choices=ExportAssurance,
        default=ExportAssurance.ANY,
        db_default=ExportAssurance.ANY,
        help_text="An export by UCI leaves out conversations whose identity is weaker.",
    )
    deadline = models.CharField(
        max_length=8,
        default=GDPR,
        db_default=GDPR,
        validators=[
            RegexValidator(DEADLINE, f"Use gdpr, ccpa, or a number of days from 1 to {MOST_DAYS_OF_DEADLINE}.")
        ],
        help_text="By when a request must be answered: gdpr (one month), ccpa (45 days), or a number of days. It "
        "applies to requests that are filed from now on.",
    )
    csv_dialect = models.CharField(
        "CSV dialect",
        max_length=16,
        choices=CsvDialect,
        default=CsvDialect.STANDARD,
        db_default=CsvDialect.STANDARD,
        help_text="Of exports that are filed without a dialect of their own.",
    )
    callback_url = models.CharField(
        "callback URL",
        max_length=500,
        blank=True,
        default="",
        help_text="Receives the outcome of requests without a URL of their own. Empty: none.",
    )
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    closed_at = models.DateTimeField(
        null=True,
        editable=False,
        help_text="After a restore: something that was erased may be here again, and an operator has to decide.",
    )

    class Meta:
        constraints = [
            models.CheckConstraint(
                name="chatbot_callback_url_shape",
                condition=Q(callback_url="") | Q(callback_url__regex=CALLBACK_URL),
            ),
            models.CheckConstraint(
                name="chatbot_retention_days_offered",
                condition=Q(retention_days__isnull=True)
                | Q(retention_days__range=(SHORTEST_RETENTION, LONGEST_RETENTION)),
            ),
            models.CheckConstraint(
                name="chatbot_export_assurance_known",
                condition=Q(export_assurance__in=["any", "platform", "verified"]),
            ),
            models.CheckConstraint(name="chatbot_deadline_known", condition=Q(deadline__regex=DEADLINE)),
            models.CheckConstraint(
                name="chatbot_csv_dialect_known",
                condition=Q(csv_dialect__in=["standard", "excel_comma", "excel_semicolon"]),
            ),
            models.CheckConstraint(name="chatbot_slug_not_empty", condition=~Q(slug="")),
            # In the hosted bucket the folders of chatbots are beside these folders of the service.
            models.CheckConstraint(
                name="chatbot_slug_not_reserved",
                condition=~Q(slug__in=SERVICE_FOLDERS),
                violation_error_message="This slug names a folder of the service in the bucket. Choose another.",
            ),
        ]

    def __str__(self) -> str:
        return self.slug


class Variable(models.Model):
    class Category(models.TextChoices):
        CUSTOM = "custom", "Custom"
        USER_CHANNEL = "user_channel", "User channel"
        SYSTEM = "system", "System"

    public_id = models.UUIDField(
        default=uuid7, unique=True, editable=False, help_text="Identifies it in digests and the erasure ledger."
    )
    chatbot = models.ForeignKey(Chatbot, on_delete=models.PROTECT, related_name="variables")
    name = models.CharField(max_length=128)
    category = models.CharField(max_length=16, choices=Category)
    is_uci = models.BooleanField("is the UCI", default=False)
    was_uci = models.BooleanField(
        "was the UCI",
        default=False,
        help_text="Conversations of that time stay findable under it, so it cannot be removed.",
    )
    # For a present or former UCI: when the values stored before its designation were deleted.
    values_gone_at = models.DateTimeField(null=True, editable=False)

    class Meta:
        constraints = [
            models.UniqueConstraint(name="variable_name_once_per_chatbot", fields=["chatbot", "name"]),
            models.UniqueConstraint(
                name="variable_one_uci_per_chatbot", fields=["chatbot"], condition=Q(is_uci=True)
            ),
            # The target of composite foreign keys: a row can only refer to a variable of its own chatbot.
            models.UniqueConstraint(name="variable_of_chatbot", fields=["chatbot", "id"]),
            models.CheckConstraint(
                name="variable_category_known", condition=Q(category__in=["custom", "user_channel", "system"])
            ),
            models.CheckConstraint(
                name="variable_uci_not_system", condition=~(Q(is_uci=True) & Q(category="system"))
            ),
            models.CheckConstraint(
                name="variable_user_channel_name",
                condition=~Q(category="user_channel") | Q(name__regex=r"^[a-z0-9_]+$"),
            ),
            models.CheckConstraint(name="variable_name_not_empty", condition=~Q(name="")),
        ]

    def __str__(self) -> str:
        return self.name


class DigestKey(models.Model):
    """The fingerprint of `DIGEST_KEY`: one row, written by the first `migrate` (`chatbots.digest_key`)."""

    id = models.PositiveSmallIntegerField(primary_key=True, default=1)
    fingerprint = models.BinaryField(max_length=32)
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        constraints = [models.CheckConstraint(name="digestkey_one_row", condition=Q(id=1))]

    def __str__(self) -> str:
        return "fingerprint of DIGEST_KEY"


class CallbackSecret(models.Model):
    """A secret that signs callbacks (`chatbots.callback_secrets`): the newest, and for a while its predecessor."""

    id = models.UUIDField(primary_key=True, help_text="UUIDv7.")
    chatbot = models.ForeignKey(Chatbot, on_delete=models.PROTECT, related_name="callback_secrets")
    secret_encrypted = models.TextField()
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    previous_until = models.DateTimeField(
        null=True, help_text="Until when its predecessor, a secret or a signing key, signs as well."
    )

    class Meta:
        constraints = [
            models.CheckConstraint(name="callbacksecret_not_empty", condition=~Q(secret_encrypted="")),
        ]

    def __str__(self) -> str:
        return f"callback secret {self.pk}"


class RateLimitWindow(models.Model):
    """The calls of a key in its current minute (`chatbots.rate_limits`).

    The table is unlogged, so that counting waits for no disk. A crash of the database empties it.
    """

    api_key = models.OneToOneField(ApiKey, on_delete=models.CASCADE, primary_key=True, related_name="+")
    chatbot = models.ForeignKey(Chatbot, on_delete=models.PROTECT, related_name="+", db_index=False)
    began_at = models.DateTimeField()
    taken = models.BigIntegerField(help_text="Permits taken; above the limit once it is reached.")

    def __str__(self) -> str:
        return f"minute of key {self.pk}"


class Bucket(models.Model):
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

    chatbot = models.OneToOneField(Chatbot, on_delete=models.PROTECT, related_name="bucket")
    hosting = models.CharField(max_length=8, choices=Hosting, default=Hosting.HOSTED)
    bucket = models.CharField(max_length=63, blank=True, default="")
    region = models.CharField(max_length=64, blank=True, default="")
    prefix = models.CharField(max_length=200, blank=True, default="", help_text="Empty, or ends in /.")
    endpoint = models.CharField(max_length=200, blank=True, default="", help_text="Empty for AWS.")
    access_key_id = models.CharField(max_length=128, blank=True, default="")
    secret_encrypted = models.TextField(blank=True, default="", help_text="For the access key; never shown again.")
    role_arn = models.CharField(max_length=2048, blank=True, default="")
    external_id = models.CharField(
        max_length=64, blank=True, default="", help_text="The trust policy of the role names it."
    )
    sse = models.CharField(max_length=8, choices=Sse, blank=True, default=Sse.BUCKET_DEFAULT)
    kms_key_id = models.CharField(max_length=2048, blank=True, default="")
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    last_checked_at = models.DateTimeField(null=True, blank=True, editable=False)
    last_error = models.CharField(max_length=500, blank=True, default="", help_text="Our code and detail.")

    class Meta:
        constraints = [
            models.CheckConstraint(name="bucket_hosting_known", condition=Q(hosting__in=["hosted", "client"])),
            models.CheckConstraint(
                name="bucket_settings_fit_hosting",
                condition=Q(
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
            ),
            # Two chatbots in one location would overwrite each other's files.
            models.UniqueConstraint(
                name="bucket_place_once",
                fields=["bucket", "endpoint", "prefix"],
                condition=Q(hosting="client"),
            ),
            models.CheckConstraint(name="bucket_prefix_is_folder", condition=Q(prefix="") | Q(prefix__endswith="/")),
            models.CheckConstraint(name="bucket_sse_known", condition=Q(sse__in=["", "AES256", "aws:kms"])),
            models.CheckConstraint(name="bucket_kms_key_fits_sse", condition=Q(kms_key_id="") | Q(sse="aws:kms")),
        ]

    def __str__(self) -> str:
        return f"{self.hosting} bucket {self.pk}"


class Membership(models.Model):
    """The role of a staff user in a chatbot. Superusers need none."""

    class Role(models.TextChoices):
        VIEWER = "viewer", "Viewer"
        SUPPORT = "support", "Support"
        OFFICER = "officer", "Officer"

    chatbot = models.ForeignKey("chatbots.Chatbot", on_delete=models.PROTECT, related_name="memberships")
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="memberships")
    role = models.CharField(max_length=8, choices=Role)
    mails = models.BooleanField(
        default=True,
        help_text="Whether the officer gets mails about failed, held and late requests: their own choice.",
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


class ChangeLogEntry(models.Model):
    """An entry of the change log, written only by `chatbots.changelog`. A trigger refuses UPDATE and DELETE."""

    chatbot = models.ForeignKey(Chatbot, on_delete=models.PROTECT, related_name="change_log", db_index=False)
    request_id = models.UUIDField(null=True, blank=True)
    event = models.CharField(max_length=64)
    actor = models.CharField(max_length=64, help_text="Kind and id: api:<key prefix>, user:<id>, command, worker.")
    at = models.DateTimeField(db_default=Now(), editable=False)
    data = models.JSONField(default=dict)

    class Meta:
        verbose_name = "change log entry"
        verbose_name_plural = "change log"
        indexes = [
            # The timeline of one request.
            models.Index(
                name="changelog_request", fields=["request_id", "id"], condition=Q(request_id__isnull=False)
            ),
            # The log of one chatbot, newest first.
            models.Index(F("chatbot"), F("id").desc(), name="changelog_chatbot_newest"),
            # One kind of event. The three that every request has are frequent enough to be found without an index.
            models.Index(
                F("chatbot"),
                F("event"),
                F("id").desc(),
                name="changelog_rare_events",
                condition=~Q(event__in=["request.accepted", "request.started", "request.completed"]),
            ),
        ]
        constraints = [
            models.CheckConstraint(name="changelog_event_dotted", condition=Q(event__regex=r"^[a-z_]+(\.[a-z_]+)+$")),
        ]

    def __str__(self) -> str:
        return f"{self.event} {self.pk}"
