"""The canary: a made-up chatter of a chatbot of its own, planted and erased again and again (`compliance.canary`).

None of these rows contains a planted word: words are derived from a turn's id (`compliance.canary.words`).
"""

from datetime import timedelta

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import Q
from django.db.models.functions import Now
from uuid_utils.compat import uuid7

from chatbots.models import Chatbot
from common.leases import Lease
from common.tables import Named, checks


class Canary(Named):
    """The chatbot whose chatters are made up: one row. It signs with the chatbot's signing key."""

    id = models.PositiveSmallIntegerField(primary_key=True, default=1)
    chatbot = models.OneToOneField(Chatbot, on_delete=models.PROTECT, related_name="+")
    token_encrypted = models.TextField()  # the token with which it sends and reads
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        verbose_name_plural = "canaries"
        constraints = checks(
            canary_one_row=Q(id=1),
            canary_has_token=~Q(token_encrypted=""),
        )


class Place(models.TextChoices):
    """The place of a leftover."""

    API = "api", "The API"
    BUCKET = "bucket", "The bucket"
    ROWS = "rows", "The database"
    LOGS = "logs", "A log file"


class Left(models.TextChoices):
    """The kind of a leftover."""

    TEXT_LEFT = "text_left", "A planted word is there"
    NOT_ERASED = "not_erased", "More is shown than a deleted conversation"
    STILL_SERVED = "still_served", "What was erased is still handed out"


class CanaryTurn(Lease):
    """One chatter, from planting to the search for leftovers. Times are by the database's clock."""

    # Longer than a step takes. Each step renews the lease.
    lease = timedelta(minutes=1)

    class State(models.TextChoices):
        RUNNING = "running", "Running"
        CLEAN = "clean", "Nothing was left"
        FOUND = "found", "Something was left"
        UNCLEAR = "unclear", "It could not look everywhere"

    class Step(models.TextChoices):
        """The steps in their order."""

        CLEAN_UP = "clean_up", "Erase what former turns have left"
        PLANT = "plant", "Send conversations and a file"
        EXPORT = "export", "Have them exported"
        EXTRACT = "extract", "Wait for the daily extract"
        CONTROL = "control", "See that the search finds what is there"
        ERASE = "erase", "Have them erased"
        LOOK_API = "look_api", "Look through the API"
        LOOK_BUCKET = "look_bucket", "Look in the bucket"
        LOOK_ROWS = "look_rows", "Look in the database"
        LOOK_LOGS = "look_logs", "Look in the logs"

    class Trouble(models.TextChoices):
        """The reason why a step failed or a search was incomplete. It is neither clean nor a finding."""

        NOT_SET_UP = "not_set_up", "CANARY_URL is not set, or its keys cannot be used"
        API_UNAVAILABLE = "api_unavailable", "The service did not answer, or said that it could not"
        API_REFUSED = "api_refused", "The service refused a call of the canary"
        NOT_CARRIED_OUT = "not_carried_out", "A request failed, was held, or took too long"
        EXTRACT_LATE = "extract_late", "The daily extract was not made in time"
        STORAGE_UNAVAILABLE = "storage_unavailable", "The bucket did not answer, or refused to be read"
        BLIND = "blind", "The search did not find what was there before the deletion"
        RIGHTS_MISSING = "rights_missing", "The database role may not read what is to be searched"
        TABLE_UNKNOWN = "table_unknown", "The database has a table that the search does not know"
        LOG_MISSING = "log_missing", "No file fits a pattern of CANARY_LOG_FILES, or one cannot be read"
        TOO_MUCH = "too_much", "There is more to be searched than the canary reads, or it cannot be unpacked"
        TOO_LONG = "too_long", "It took too long"
        BROKEN = "broken", "The canary itself met an error: canary.failed in the log has more"

    id = models.UUIDField(primary_key=True, default=uuid7)  # UUIDv7
    chatbot = models.ForeignKey(Chatbot, on_delete=models.PROTECT, related_name="+", db_index=False)
    state = models.CharField(max_length=8, choices=State, default=State.RUNNING)
    step = models.CharField(max_length=12, choices=Step, default=Step.CLEAN_UP)
    began_at = models.DateTimeField(db_default=Now(), editable=False)
    ended_at = models.DateTimeField(null=True)

    day = models.DateField()  # the day whose extract is to hold the chatter
    planted_at = models.DateTimeField(null=True)  # since when something of the chatter can be stored
    erased_at = models.DateTimeField(null=True)  # when its deletion was seen to be completed
    numbers = ArrayField(models.BigIntegerField(), default=list)  # of the conversations
    file_id = models.BigIntegerField(null=True)  # the uploaded file's number
    export_id = models.UUIDField(null=True)  # the request; no database constraint
    deletion_id = models.UUIDField(null=True)  # the request; no database constraint
    # Not empty if its search read log files.
    logs = models.JSONField(default=dict)
    trouble = models.CharField(max_length=20, choices=Trouble, blank=True, default="")
    trouble_at = models.CharField(max_length=200, blank=True, default="")  # where: a name of ours
    # The position is a call, a column, a folder with a digest of the key, or a file. The found text is never stored.
    # What was left: place (`Place`), code (`Left`), where.
    findings = models.JSONField(default=list)

    class Meta:
        indexes = [models.Index(name="canaryturn_began", fields=["-began_at"])]
        constraints = [
            # One running turn for all clusters and commands.
            models.UniqueConstraint(name="canaryturn_one_runs", fields=["state"], condition=Q(state="running")),
            *checks(
                canaryturn_state_fits=Q(state="running", ended_at__isnull=True)
                | Q(state__in=["found", "unclear"], ended_at__isnull=False)
                | Q(state="clean", ended_at__isnull=False, erased_at__isnull=False, trouble="")
            ),
        ]


def canary_token_binding(chatbot_id: int) -> str:
    """Return the context to which the canary's encrypted token is bound (`common.crypto`)."""
    return f"canary:{chatbot_id}:token"
