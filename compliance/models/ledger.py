"""The identity of this service, by which a restored database is recognised, and its ledger outside of the database.

For an overview, see `compliance/ledger/__init__.py`.
"""

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import Q
from django.db.models.functions import Now

from chatbots.models import Chatbot
from common.tables import Named, checks


class Service(Named):
    """The identity of this service, and whether its database was restored: one row (`compliance.ledger.service`)."""

    class State(models.TextChoices):
        OPEN = "open", "Open"
        RESTORED = "restored", "Restored from a backup"
        CATCHING_UP = "catching_up", "Catching up after a failover"

    class Reason(models.TextChoices):
        OTHER_SERVER = "other_server", "The database is on another server, or was loaded from a dump"
        OBJECTS_UNKNOWN = "objects_unknown", "The ledger has objects that this database does not know"

    id = models.PositiveSmallIntegerField(primary_key=True, default=1)
    # Names its folder of the ledger. A copy gets another one (adopt).
    service_id = models.UUIDField()
    incarnation = models.UUIDField()  # the life of this database: new after each replay
    # Identifies the database server and this table; differs in a dump that was loaded.
    server = models.CharField(max_length=64, blank=True, default="")
    timeline = models.BigIntegerField(null=True)  # of the write-ahead log; a failover begins another one
    state = models.CharField(max_length=16, choices=State, default=State.OPEN)
    reason = models.CharField(max_length=16, choices=Reason, blank=True, default="")
    tripped_at = models.DateTimeField(null=True)
    highest_number = models.BigIntegerField(null=True)  # the highest conversation number when the restore was noticed
    checked_at = models.DateTimeField(null=True)  # when the ledger was last compared with this database
    replayed_at = models.DateTimeField(null=True)  # when the last replay ended
    # A replay reads all objects since then, also those that this database knows.
    reads_since = models.DateTimeField(null=True)
    # The last row that was compared, while objects of the ledger that are gone are written again.
    mended_to = models.BigIntegerField(null=True)

    class Meta:
        constraints = checks(
            service_one_row=Q(id=1),
            service_state_known=Q(state__in=["open", "restored", "catching_up"]),
            service_reason_known=Q(reason__in=["", "other_server", "objects_unknown"]),
            service_trip_is_whole=Q(state="open", reason="", tripped_at__isnull=True, highest_number__isnull=True)
            | (~Q(state="open") & ~Q(reason="") & Q(tripped_at__isnull=False, highest_number__isnull=False)),
        )


class LedgerObject(Named):
    """An object of the ledger. Its row is committed before the object is written.

    It contains the subjects of its lines, so that they can be written again if the bucket has lost them.
    """

    key = models.CharField(max_length=120, unique=True)
    at = models.DateTimeField()  # the time in its key: never before that of an earlier object
    request_ids = ArrayField(models.UUIDField(), default=list)  # of requests and of legal holds
    key_prefixes = ArrayField(models.CharField(max_length=16), default=list)  # of keys that were revoked
    sha256 = models.BinaryField(max_length=32, null=True)
    # When the storage had answered. Null: unknown whether there is an object.
    written_at = models.DateTimeField(null=True)

    class Meta:
        indexes = [models.Index(name="ledgerobject_at", fields=["at"])]


class JournalEntry(Named):
    """An event that is not in the ledger yet. Triggers insert it (`compliance.ledger.journal`)."""

    class Kind(models.TextChoices):
        ACCEPTED = "accepted", "A request was accepted"
        WITHDRAWN = "withdrawn", "A request was cancelled or rejected"
        KEY_REVOKED = "key_revoked", "A key was revoked"
        HOLD = "hold", "A legal hold was placed, reviewed or released"

    kind = models.CharField(max_length=16, choices=Kind)
    request_id = models.UUIDField(null=True)  # the request, or the legal hold
    key_prefix = models.CharField(max_length=16, blank=True, default="", db_default="")
    at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        constraints = checks(
            journalentry_names_one=Q(
                kind__in=["accepted", "withdrawn", "hold"], request_id__isnull=False, key_prefix=""
            )
            | (Q(kind="key_revoked", request_id__isnull=True) & ~Q(key_prefix=""))
        )
        indexes = [models.Index(name="journalentry_request", fields=["request_id"])]


class LineKind(models.TextChoices):
    """Kinds of the ledger's lines (`compliance.ledger.lines`)."""

    ACCEPTED = "accepted", "A request was accepted"
    INTENDED = "intended", "A request is about to be carried out"
    WITHDRAWN = "withdrawn", "A request was cancelled or rejected"
    EXACT = "exact", "A deletion has erased"
    REDACTED = "redacted", "A redaction has removed"
    RETENTION = "retention", "A retention run erases by age"
    KEY_REVOKED = "key_revoked", "A key was revoked"
    HOLD = "hold", "A legal hold was placed, reviewed or released"


class LedgerLine(Named):
    """A request that a replay carries out: all lines of the ledger about it, merged (`compliance.replay`).

    It identifies chatbot and variable by their public ids: this database can have given their numbers to others.
    """

    class Plan(models.TextChoices):
        ERASE = "erase", "Erase again"
        LATE = "late", "Erase again what came late"
        RECORD = "record", "Record again: nothing of it is here"
        REDACT = "redact", "Redact again"
        RUN = "run", "Erase again what was due"
        FILE = "file", "File again"
        HOLD = "hold", "File again, on hold"
        COMPLETE = "complete", "File again and complete: nobody is found"
        WITHDRAW = "withdraw", "Withdraw again"
        LEAVE = "leave", "Nothing to do"
        END_EXPORT = "end_export", "Cancel: whom it would export is erased again"
        LOST_EXPORT = "lost_export", "Name as lost"
        REMEMBER = "remember", "Redact what is sent again: the messages are not here"
        LOST_REDACTION = "lost_redaction", "Name: the messages are not here, and nobody has approved it"
        UNKNOWN_CHATBOT = "unknown_chatbot", "Name: the chatbot is not in this database"
        UNKNOWN_VARIABLE = "unknown_variable", "Decide: the variable is not in this database"
        CONFLICT = "conflict", "Decide: conflicts with this database"
        UNFILED = "unfiled", "Decide: it cannot be filed"

    class Outcome(models.TextChoices):
        FILED = "filed", "Under way"
        ERASED = "erased", "Erased again"
        NOTHING_FOUND = "nothing_found", "Nothing was left to erase"
        FILED_AGAIN = "filed_again", "Filed again"
        ON_HOLD = "on_hold", "Filed again, on hold"
        WITHDRAWN = "withdrawn", "Withdrawn"
        UNCHANGED = "unchanged", "Left as it is"
        LEFT = "left", "Left to the workers"
        LOST_EXPORT = "lost_export", "A lost export"
        LOST_REDACTION = "lost_redaction", "A lost redaction"
        UNKNOWN_CHATBOT = "unknown_chatbot", "The chatbot is not in this database"
        UNDECIDED = "undecided", "To be decided: its chatbot is closed until then"
        DECIDED = "decided", "Left as it is by an operator"
        FAILED = "failed", "Could not be carried out"

    request_id = models.UUIDField(primary_key=True)
    kind = models.CharField(max_length=16, choices=LineKind)
    chatbot = models.ForeignKey(Chatbot, on_delete=models.PROTECT, related_name="+", db_index=False, null=True)
    line = models.JSONField()  # what the lines say, without the conversations' digests
    conversation_digests = ArrayField(models.BinaryField(max_length=32), default=list)
    key = models.CharField(max_length=120)  # the object that the line is from: the latest that has one
    at = models.DateTimeField()  # the time in its key
    incarnation = models.UUIDField()  # the life of the database that ends with this replay
    plan = models.CharField(max_length=16, choices=Plan, blank=True, default="")
    numbers = ArrayField(models.BigIntegerField(), null=True)  # the conversations that it is about here
    conversations = models.PositiveIntegerField(default=0)  # how many they are
    outcome = models.CharField(max_length=16, choices=Outcome, blank=True, default="")

    class Meta:
        indexes = [
            models.Index(name="ledgerline_open", fields=["request_id"], condition=Q(outcome__in=["", "filed"])),
            models.Index(name="ledgerline_at", fields=["at"]),
            models.Index(name="ledgerline_undecided", fields=["chatbot"], condition=Q(outcome="undecided")),
        ]
