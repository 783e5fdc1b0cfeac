"""The owners of the data: chatbots, their variables, keys, buckets and members, and the change log.

These tables hold no personal data of chatters. Invariants are database constraints; the triggers are in migration
0002 (append-only change log, no removal of a UCI, immutable public ids).
"""

from collections.abc import Collection

from django.conf import settings
from django.contrib.postgres.fields import ArrayField
from django.core.validators import RegexValidator
from django.db import models
from django.db.models import F, Q
from django.db.models.functions import Now
from uuid_utils.compat import uuid7

from chatbots.bucket_models import Bucket, BucketCheck, BucketCredential, SilentStorage
from chatbots.callback_urls import CALLBACK_URL
from chatbots.key_models import ApiKey, CallbackSecret, DigestKey, RateLimitWindow
from common.tables import Named, checks
from common.texts import is_storable

# Models in modules of their own.
__all__ = [
    "ApiKey",
    "Bucket",
    "BucketCheck",
    "BucketCredential",
    "CallbackSecret",
    "DigestKey",
    "RateLimitWindow",
    "SilentStorage",
]

# A chatbot's rule for deadlines (`compliance.deadlines`): one of these, or a number of days.
GDPR, CCPA = "gdpr", "ccpa"
MOST_DAYS_OF_DEADLINE = 365
DEADLINE = r"^(gdpr|ccpa|[1-9]|[1-9][0-9]|[12][0-9]{2}|3[0-5][0-9]|36[0-5])$"

# Characters of a UCI value.
MAX_UCI_LENGTH = 512
# Days of a retention period.
SHORTEST_RETENTION, LONGEST_RETENTION = 1, 3_650
# A JSON Pointer to the value in a resolver's answer.
POINTER = r"^(/([^/~]|~0|~1)*)*$"
DEFAULT_POINTER = "/value"
# The variables that a resolver gets.
MOST_VARIABLES = 10


def uci_value_fault(value: str) -> str | None:
    """Return a sentence with the fault of a UCI value from any source, or None. It never quotes the value."""
    if value in settings.UCI_PLACEHOLDERS:
        return "This value is a placeholder that identifies no one."
    if len(value) > MAX_UCI_LENGTH or not is_storable(value):
        return f"The value must be 1 to {MAX_UCI_LENGTH} characters, without NUL or unpaired surrogates."
    return None


# In the hosted bucket, beside the folders of chatbots.
SERVICE_FOLDERS = ["uploads", "erasure_ledger"]


# The sets of formats of exports as they are stored.
SETS_OF_FORMATS = ("csv", "csv json", "csv html", "csv json html", "json", "html", "json html")
CHOICES_OF_FORMATS = [(each, each) for each in SETS_OF_FORMATS]


def stored_formats(formats: Collection[str]) -> str:
    """Return formats of an export as they are stored: separated by spaces, in the usual order."""
    return " ".join(one for one in Chatbot.ExportFormat.values if one in formats)


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

    class ExportFormat(models.TextChoices):
        """The formats that an export can have, in the order in which they are stored."""

        CSV = "csv", "CSV: a table"
        JSON = "json", "JSON Lines: for programs"
        HTML = "html", "Pages: for people"

    # Identifies it in digests and the erasure ledger.
    public_id = models.UUIDField(default=uuid7, unique=True, editable=False)
    slug = models.SlugField(max_length=64, unique=True)
    name = models.CharField(max_length=200)
    timezone = models.CharField(max_length=64, default="UTC")  # an IANA name such as Europe/Paris
    compliance_enabled = models.BooleanField(default=False)  # whether deletions and exports may be filed
    retention_days = models.PositiveSmallIntegerField(null=True, blank=True)
    # Runs that were filed earlier are of another period. Null after a restore, until staff confirm it.
    retention_set_at = models.DateTimeField(null=True, editable=False)
    extracts_enabled = models.BooleanField(default=False)
    # Deletions of more than this are held for approval.
    max_conversations_per_deletion = models.PositiveIntegerField(default=1000)
    four_eyes = models.BooleanField(default=False)  # whether each deletion needs the approval of another person
    # Whether a request must carry "action", so that a captured one cannot be sent to another path.
    require_action = models.BooleanField(default=False)
    # Whether an identity token must name its conversation, so that one that leaked fits no other.
    token_names_conversation = models.BooleanField(default=False, db_default=False)
    grace_minutes = models.PositiveIntegerField(default=0)  # how long a request can be cancelled before it starts
    # An export by UCI leaves out conversations whose identity is weaker.
    export_assurance = models.CharField(
        max_length=8, choices=ExportAssurance, default=ExportAssurance.ANY, db_default=ExportAssurance.ANY
    )
    # By when a request must be answered: gdpr (one month), ccpa (45 days), or a number of days. It applies to
    # requests that are filed from now on.
    deadline = models.CharField(
        max_length=8,
        default=GDPR,
        db_default=GDPR,
        validators=[
            RegexValidator(DEADLINE, f"Use gdpr, ccpa, or a number of days from 1 to {MOST_DAYS_OF_DEADLINE}.")
        ],
    )
    # Of exports that are filed without a dialect of their own.
    csv_dialect = models.CharField(
        "CSV dialect", max_length=16, choices=CsvDialect, default=CsvDialect.STANDARD, db_default=CsvDialect.STANDARD
    )
    # Of exports that are filed without formats of their own, separated by spaces.
    export_formats = models.CharField(
        max_length=16, choices=CHOICES_OF_FORMATS, default=ExportFormat.CSV, db_default=ExportFormat.CSV
    )
    # Receives the outcome of requests without a URL of their own. Empty: none.
    callback_url = models.CharField("callback URL", max_length=500, blank=True, default="")
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    # After a restore: something that was erased may be here again, and an operator has to decide.
    closed_at = models.DateTimeField(null=True, editable=False)

    class Meta:
        constraints = [
            # In the hosted bucket the folders of chatbots are beside these folders of the service.
            models.CheckConstraint(
                name="chatbot_slug_not_reserved",
                condition=~Q(slug__in=SERVICE_FOLDERS),
                violation_error_message="This slug names a folder of the service in the bucket. Choose another.",
            ),
            *checks(
                chatbot_callback_url_shape=Q(callback_url="") | Q(callback_url__regex=CALLBACK_URL),
                chatbot_retention_days_offered=Q(retention_days__isnull=True)
                | Q(retention_days__range=(SHORTEST_RETENTION, LONGEST_RETENTION)),
                chatbot_export_assurance_known=Q(export_assurance__in=["any", "platform", "verified"]),
                chatbot_deadline_known=Q(deadline__regex=DEADLINE),
                chatbot_csv_dialect_known=Q(csv_dialect__in=["standard", "excel_comma", "excel_semicolon"]),
                chatbot_export_formats_known=Q(export_formats__in=SETS_OF_FORMATS),
                chatbot_slug_not_empty=~Q(slug=""),
            ),
        ]

    def __str__(self) -> str:
        return self.slug


class Variable(models.Model):
    class Category(models.TextChoices):
        CUSTOM = "custom", "Custom"
        USER_CHANNEL = "user_channel", "User channel"
        SYSTEM = "system", "System"

    # Identifies it in digests and the erasure ledger.
    public_id = models.UUIDField(default=uuid7, unique=True, editable=False)
    chatbot = models.ForeignKey(Chatbot, on_delete=models.PROTECT, related_name="variables")
    name = models.CharField(max_length=128)
    category = models.CharField(max_length=16, choices=Category)
    is_uci = models.BooleanField("is the UCI", default=False)
    # Conversations of that time stay findable under it, so it cannot be removed.
    was_uci = models.BooleanField("was the UCI", default=False)
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
            *checks(
                variable_category_known=Q(category__in=["custom", "user_channel", "system"]),
                variable_uci_not_system=~(Q(is_uci=True) & Q(category="system")),
                variable_user_channel_name=~Q(category="user_channel") | Q(name__regex=r"^[a-z0-9_]+$"),
                variable_name_not_empty=~Q(name=""),
            ),
        ]

    def __str__(self) -> str:
        return self.name


class Resolver(Named):
    """The address at which a chatbot's identities are looked up, and the variables that are sent.

    It stops by itself when another variable becomes the UCI: the address answers with a value of the former one. The
    columns from `called_at` on are written by workers.
    """

    class OffReason(models.TextChoices):
        UCI_CHANGED = "uci_changed", "Another variable has become the UCI since"
        UCI_NOT_CUSTOM = "uci_not_custom", "The UCI is no custom variable any more"

    chatbot = models.OneToOneField(Chatbot, on_delete=models.PROTECT, primary_key=True, related_name="resolver")
    # In canonical form. Its path may be a secret.
    url = models.CharField("URL", max_length=500)
    # Variables are never removed, so a table with foreign keys is not needed.
    # What is sent: variables of the chatbot.
    variable_ids = ArrayField(models.BigIntegerField())
    # The sent user-channel variable that holds an opaque token of the client's own session.
    session_token = models.ForeignKey(
        Variable, null=True, on_delete=models.DO_NOTHING, related_name="+", db_constraint=False, db_index=False
    )
    # Where the answer has the value (RFC 6901).
    pointer = models.CharField(max_length=200, default=DEFAULT_POINTER, blank=True)
    off_reason = models.CharField(max_length=16, choices=OffReason, blank=True, default="")
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    called_at = models.DateTimeField(null=True, editable=False)  # when the last call ended
    # The first of the failed calls since the last good one.
    failing_since = models.DateTimeField(null=True, editable=False)
    # Why the last call failed; empty if not.
    last_error = models.CharField(max_length=32, blank=True, default="", editable=False)
    last_error_at = models.DateTimeField(null=True, editable=False)

    class Meta:
        constraints = checks(
            resolver_url_shape=Q(url__regex=CALLBACK_URL),
            resolver_pointer_shape=Q(pointer__regex=POINTER),
            resolver_sends_some=Q(variable_ids__len__range=(1, MOST_VARIABLES)),
            resolver_off_reason_known=Q(off_reason__in=["", "uci_changed", "uci_not_custom"]),
        )

    @property
    def is_on(self) -> bool:
        return not self.off_reason

    def sent(self) -> dict[int, str]:
        """Return the variables that are sent, by id, with their names, in the order in which they were set."""
        names = dict(self.chatbot.variables.filter(pk__in=self.variable_ids).values_list("pk", "name"))
        return {pk: names[pk] for pk in self.variable_ids if pk in names}


class Membership(Named):
    """The role of a staff user in a chatbot. Superusers need none."""

    class Role(models.TextChoices):
        VIEWER = "viewer", "Viewer"
        SUPPORT = "support", "Support"
        OFFICER = "officer", "Officer"

    chatbot = models.ForeignKey(Chatbot, on_delete=models.PROTECT, related_name="memberships")
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="memberships")
    role = models.CharField(max_length=8, choices=Role)
    # Whether the officer gets mails about failed, held and late requests: their own choice.
    mails = models.BooleanField(default=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(name="membership_one_role_per_chatbot", fields=["user", "chatbot"]),
            *checks(membership_role_known=Q(role__in=["viewer", "support", "officer"])),
        ]


class ChangeLogEntry(models.Model):
    """An entry of the change log, written only by `chatbots.changelog`. A trigger refuses UPDATE and DELETE."""

    chatbot = models.ForeignKey(Chatbot, on_delete=models.PROTECT, related_name="change_log", db_index=False)
    request_id = models.UUIDField(null=True, blank=True)
    event = models.CharField(max_length=64)
    actor = models.CharField(max_length=64)  # kind and id: api:<key prefix>, user:<id>, command, worker
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
        constraints = checks(changelog_event_dotted=Q(event__regex=r"^[a-z_]+(\.[a-z_]+)+$"))

    def __str__(self) -> str:
        return f"{self.event} {self.pk}"
