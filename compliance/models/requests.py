"""Requests: the queue of all work, and the record of it.

ComplianceRequest is the durable queue as well as the record. Its states and the rights to change them are in
`compliance/requests/__init__.py`; what workers take, in `compliance/work/claims.py`.
"""

from collections.abc import Sequence

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import F, Func, Q, Value
from django.db.models.functions import Coalesce, Now

from chatbots.callback_urls import CALLBACK_URL
from chatbots.models import CHOICES_OF_FORMATS, DEADLINE, SETS_OF_FORMATS, Chatbot, Variable
from common.tables import checks
from common.texts import REFERENCE
from compliance.models.workers import Claim


class ComplianceRequest(models.Model):
    class Kind(models.TextChoices):
        DELETION = "deletion", "Deletion"
        EXPORT = "export", "Export"
        RETENTION = "retention", "Retention run"
        REDACTION = "redaction", "Redaction"

    class Origin(models.TextChoices):
        API = "api", "API"
        CONSOLE = "console", "Console"
        COMMAND = "command", "Command"
        SCHEDULE = "schedule", "Schedule"
        REPLAY = "replay", "Replay of the erasure ledger"

    class Status(models.TextChoices):
        ACCEPTED = "accepted", "Accepted"
        ON_HOLD = "on_hold", "On hold"
        PROCESSING = "processing", "Processing"
        COMPLETED = "completed", "Completed"
        FAILED = "failed", "Failed"
        CANCELLED = "cancelled", "Cancelled"
        REJECTED = "rejected", "Rejected"

    class HoldReason(models.TextChoices):
        TOO_MANY_CONVERSATIONS = (
            "too_many_conversations",
            "More conversations than the chatbot's guard allows",
        )
        AWAITING_APPROVAL = "awaiting_approval", "Waiting for the approval of another person"
        EXPORT_PENDING = "export_pending", "An earlier export of this chatter has not been delivered"
        RESTORED = "restored", "Staff decide, since the database was restored from a backup"
        LEGAL_HOLD = "legal_hold", "A legal hold covers some of the data"

    class Result(models.TextChoices):
        DONE = "done", "Done"
        PARTIAL = "partial", "Done, except for data under a legal hold"
        NOTHING_FOUND = "nothing_found", "Nothing found"

    class Selector(models.TextChoices):
        UCI = "uci", "One chatter, by the UCI value"
        CONVERSATIONS = "conversations", "Conversations, by the platform's ids"
        AGE = "age", "Conversations, by their last message"
        MESSAGES = "messages", "Messages of a conversation"

    class WaitingFor(models.TextChoices):
        """Each ends by itself: no request waits for another person's request."""

        EXTRACTS = "extracts", "Daily extracts that are being rebuilt"
        TURN = "turn", "Its next turn: it takes long"
        ROWS = "rows", "Rows that another worker has locked"

    class ExtensionReason(models.TextChoices):
        """The two reasons of Art. 12(3) GDPR."""

        COMPLEXITY = "complexity", "The request is complex"
        NUMBER_OF_REQUESTS = "number_of_requests", "There are many requests"

    class Lane(models.TextChoices):
        """How workers take a request. All but `normal` and `split` ones are taken one at a time."""

        NORMAL = "normal", "Normal"
        SPLIT = "split", "Split: its last claim, of many requests, failed or expired"
        ISOLATED = "isolated", "Isolated: its last claim, of few requests, failed or expired"
        LARGE = "large", "Large: it would hold up the others of a claim"
        CLIENT = "client", "A deletion that has to call a client's bucket"

    # Personal columns, which lists never read.
    UNREAD = ("uci_value", "uci_digest", "message_digests")
    # No columns: set if an equal export, filed before, is returned in place of a new one; see `conversation_digests`.
    existing = False
    given_digests: Sequence[bytes] = ()

    id = models.UUIDField(primary_key=True, help_text="UUIDv7, created when the request is filed.")
    chatbot = models.ForeignKey(Chatbot, on_delete=models.PROTECT, related_name="requests", db_index=False)
    kind = models.CharField(max_length=16, choices=Kind)
    seq = models.BigIntegerField(
        editable=False,
        db_default=Func(Value("compliance_request_seq"), function="nextval", output_field=models.BigIntegerField()),
        help_text="The order of filing; never changes. An export filed in place of another one has its order.",
    )
    origin = models.CharField(max_length=16, choices=Origin)
    status = models.CharField(max_length=16, choices=Status, default=Status.ACCEPTED)
    hold_reason = models.CharField(max_length=32, choices=HoldReason, null=True)
    pending_export_id = models.UUIDField(
        null=True, help_text="The export that a deletion was last held for, if that has another selector."
    )

    # The subject is a chatter or conversations. For a chatter: the variable, the value, and the value's keyed digest,
    # which outlives the value by ERASURE_LEDGER_DAYS. For conversations: RequestSubject has the keyed digests of the
    # platform's ids, kept as long.
    variable = models.ForeignKey(
        Variable, on_delete=models.DO_NOTHING, related_name="+", db_constraint=False, db_index=False, null=True
    )
    uci_value = models.CharField(max_length=512, null=True)
    uci_digest = models.BinaryField(max_length=32, null=True)
    message_digests = ArrayField(
        models.BinaryField(max_length=32),
        null=True,
        help_text="Keyed digests of a redaction's messages: a deletion may erase them before its line is made.",
    )
    named_conversations = models.SmallIntegerField(
        null=True,
        help_text="How many conversations it names: 1 to 100. Null for others, and once these are forgotten.",
    )

    reference = models.CharField(
        max_length=64, blank=True, default="", help_text="Emptied ERASURE_LEDGER_DAYS after the request ended."
    )
    callback_url = models.CharField(
        max_length=500,
        blank=True,
        default="",
        help_text="Emptied once a final state was delivered there or given up.",
    )
    erase_exports = models.BooleanField(default=False)
    include_shared = models.BooleanField(default=False)
    include_files = models.BooleanField(default=False)
    # The dialect that was resolved when the export was filed. It has no meaning for other kinds.
    csv_dialect = models.CharField(
        max_length=16,
        choices=Chatbot.CsvDialect,
        default=Chatbot.CsvDialect.STANDARD,
        db_default=Chatbot.CsvDialect.STANDARD,
        help_text="Of the file of an export.",
    )
    # As they were resolved when the export was filed.
    formats = models.CharField(
        max_length=16,
        choices=CHOICES_OF_FORMATS,
        default=Chatbot.ExportFormat.CSV,
        db_default=Chatbot.ExportFormat.CSV,
        help_text="Of an export, as Chatbot.export_formats.",
    )
    archive = models.CharField(max_length=4, choices=[("zip", "ZIP")], blank=True, default="", db_default="")

    # One timestamp per state, all by the database's clock.
    received_at = models.DateTimeField(db_default=Now(), editable=False)
    requested_at = models.DateTimeField(
        null=True, help_text="When the person asked, if that was before it was received: the deadline counts from it."
    )
    queued_at = models.DateTimeField(db_default=Now(), help_text="Place in the queue; a retry moves it.")
    not_before = models.DateTimeField(
        null=True, help_text="No worker takes it earlier: grace period, or back-off after an error."
    )
    # The chatbot's rule when the request was filed. `due_at` is the end of a day in the chatbot's zone, counted by it
    # (`compliance.deadlines`).
    deadline = models.CharField(max_length=8, db_default="30", help_text="The rule that `due_at` was counted by.")
    due_at = models.DateTimeField()
    extended_at = models.DateTimeField(null=True)
    extended_by = models.CharField(
        max_length=64, blank=True, default="", db_default="", help_text="The actor, as in the change log."
    )
    extension_reason = models.CharField(max_length=32, choices=ExtensionReason, null=True)
    answered_at = models.DateTimeField(
        null=True, help_text="When the person was told that the request is refused or held: it is not overdue then."
    )
    held_at = models.DateTimeField(null=True)
    started_at = models.DateTimeField(null=True)
    cutoff_at = models.DateTimeField(
        null=True,
        help_text="When a deletion marked, a redaction emptied its messages, or an export read its snapshot.",
    )
    cutoff_number = models.BigIntegerField(
        null=True, help_text="The highest conversation number of the chatbot when a deletion marked."
    )
    # A run can close millions of conversations, so it works and is verified by slices. Null once it is complete.
    slice = ArrayField(
        models.BigIntegerField(),
        null=True,
        help_text="The conversations that a retention run under way has closed and not verified yet.",
    )
    waiting_for = models.CharField(
        max_length=16, choices=WaitingFor, null=True, help_text="Why a worker requeued it."
    )
    completed_at = models.DateTimeField(null=True)
    failed_at = models.DateTimeField(null=True)
    cancelled_at = models.DateTimeField(null=True)
    rejected_at = models.DateTimeField(null=True)
    filed_by = models.CharField(max_length=64, help_text="The actor, as in the change log.")
    approved_at = models.DateTimeField(null=True)
    approved_by = models.CharField(
        max_length=64, blank=True, default="", help_text="The actor, as in the change log."
    )
    approved_holds = ArrayField(
        models.CharField(max_length=32, choices=HoldReason),
        default=list,
        help_text="The hold reasons that were approved. Any other reason needs a new approval.",
    )

    # An officer let the deletion erase what no hold covers. Its scope has only marked conversations then, and the
    # rest is filed again as another request.
    withholds = models.BooleanField(
        default=False, db_default=False, help_text="Whether it leaves out conversations under a legal hold."
    )
    continues = models.ForeignKey(
        "self",
        null=True,
        on_delete=models.DO_NOTHING,
        related_name="continued_by",
        db_index=False,
        db_constraint=False,
        help_text="The deletion that left out the conversations under a legal hold that this one erases.",
    )

    claim = models.ForeignKey(Claim, null=True, on_delete=models.SET_NULL, related_name="requests", db_index=False)
    attempts = models.PositiveSmallIntegerField(default=0, help_text="Errors and expired claims; five at most.")
    lane = models.CharField(max_length=8, choices=Lane, default=Lane.NORMAL)

    result = models.CharField(max_length=16, choices=Result, null=True)
    error_code = models.CharField(max_length=64, blank=True, default="")
    error_detail = models.CharField(max_length=500, blank=True, default="", help_text="Ours, never a library's text.")

    # The numbers of processed rows per store, as the statements reported them.
    conversations_total = models.PositiveIntegerField(default=0)
    erased_before = models.PositiveIntegerField(
        default=0, help_text="Conversations of the total whose rows another deletion had erased already."
    )
    conversations = models.PositiveIntegerField(default=0)
    shared_conversations = models.PositiveIntegerField(default=0)
    messages = models.PositiveBigIntegerField(default=0)
    identities = models.PositiveIntegerField(default=0)
    variable_values = models.PositiveIntegerField(default=0)
    files = models.PositiveIntegerField(default=0)
    exports = models.PositiveIntegerField(default=0)
    extracts = models.PositiveIntegerField(default=0)
    extracts_left = models.PositiveIntegerField(default=0, help_text="Daily extracts still to be rebuilt.")
    # The later ones have no check constraint, for which PostgreSQL would read the table under an exclusive lock.
    unverified_left_out = models.IntegerField(
        default=0,
        db_default=0,
        help_text="Conversations that an export left out: their chatter's identity was weaker than the chatbot "
        "demands.",
    )
    csat_comments = models.IntegerField(
        default=0, db_default=0, help_text="Of a redaction; a deletion empties them with their conversations."
    )
    withheld = models.IntegerField(
        default=0,
        db_default=0,
        help_text="Conversations that a deletion or a retention run left out: a legal hold covers them.",
    )
    # Of a chatter's live conversations at the mark or in the snapshot, by `conversations.models.Assurance`.
    assurance_user_channel = models.IntegerField(default=0, db_default=0)
    assurance_platform = models.IntegerField(default=0, db_default=0)
    assurance_verified = models.IntegerField(default=0, db_default=0)

    class Meta:
        indexes = [
            # Requests that workers may claim, per kind, lane and chatbot, in queue order: by the time at which they
            # may be taken, so that no claim reads past later ones.
            models.Index(
                "kind",
                "lane",
                "chatbot",
                Coalesce("not_before", "queued_at"),
                "seq",
                name="request_queue",
                condition=Q(status="accepted", claim__isnull=True),
            ),
            # One chatter's requests, for their order, for blocking ones and for the look-up. It is not partial:
            # PostgreSQL takes an index of only the open ones for empty, and reads all of it.
            models.Index(name="request_of_chatter", fields=["variable", "uci_digest", "status", "seq"]),
            models.Index(name="request_claim", fields=["claim"], condition=Q(claim__isnull=False)),
            # Requests that wait for a chatbot's days.
            models.Index(
                name="request_waits_for_days",
                fields=["chatbot", "seq"],
                condition=Q(chatbot__gt=0, waiting_for="extracts", status="accepted"),
            ),
            models.Index(name="request_held", fields=["hold_reason", "seq"], condition=Q(status="on_hold")),
            models.Index(F("chatbot"), F("id").desc(), name="request_newest"),
            # The newest requests of a status, of the exports, of a client's ticket. Values that most requests have
            # are left out: those requests are soon found among the newest, and each entry costs each request. The
            # condition on chatbot keeps PostgreSQL from using these for claims, which have no condition on chatbot:
            # it would take an index for empty and read all of it.
            models.Index(
                F("chatbot"),
                F("status"),
                F("id").desc(),
                name="request_newest_unfinished",
                condition=~Q(status="completed") & Q(chatbot__gt=0),
            ),
            models.Index(
                F("chatbot"),
                F("id").desc(),
                name="request_newest_exports",
                condition=Q(kind="export", chatbot__gt=0),
            ),
            models.Index(
                F("chatbot"), F("reference"), F("id").desc(), name="request_of_reference", condition=~Q(reference="")
            ),
            # The newest requests that were not filed by the API. Most are filed by it.
            models.Index(
                F("chatbot"),
                F("origin"),
                F("id").desc(),
                name="request_newest_by_hand",
                condition=~Q(origin="api") & Q(chatbot__gt=0),
            ),
            # The deletions that continue others.
            models.Index(name="request_continues", fields=["continues"], condition=Q(continues__isnull=False)),
            # Requests without the value, by the time at which the digest must be removed too.
            models.Index(
                Coalesce("completed_at", "cancelled_at", "rejected_at", "failed_at"),
                name="request_digest_kept",
                condition=Q(uci_value__isnull=True, uci_digest__isnull=False),
            ),
            # Failed exports, whose value must be removed.
            models.Index(
                name="request_failed_exports",
                fields=["failed_at"],
                condition=Q(kind="export", status="failed", uci_value__isnull=False),
            ),
            # Open requests by conversation, which each claim checks. Empty without any such request.
            models.Index(
                name="request_by_ids_open",
                fields=["chatbot", "seq"],
                condition=Q(
                    named_conversations__isnull=False, status__in=["accepted", "on_hold", "processing", "failed"]
                ),
            ),
            # All requests by conversation, by the time of their digests' removal. Statements must have the second
            # condition too.
            models.Index(
                Coalesce("completed_at", "cancelled_at", "rejected_at", "failed_at"),
                name="request_by_ids_kept",
                condition=Q(named_conversations__isnull=False, chatbot__gt=0),
            ),
            # Redactions, by the time of their digests' removal.
            models.Index(
                Coalesce("completed_at", "cancelled_at", "rejected_at", "failed_at"),
                name="request_messages_kept",
                condition=Q(message_digests__isnull=False),
            ),
            # Requests whose reference must be removed, by that time. They have ended. Failed ones that may be retried
            # are left out, except redactions, so that the sweep reads past few.
            models.Index(
                Coalesce("completed_at", "cancelled_at", "rejected_at", "failed_at"),
                name="request_reference_kept",
                condition=~Q(reference="")
                & (
                    Q(completed_at__isnull=False)
                    | Q(cancelled_at__isnull=False)
                    | Q(rejected_at__isnull=False)
                    | Q(uci_digest__isnull=True, named_conversations__isnull=True)
                ),
            ),
        ]
        constraints = [
            *(
                models.CheckConstraint(
                    name=f"request_{kind}_names_nobody",
                    condition=~Q(kind=kind) | Q(variable__isnull=True, named_conversations__isnull=True),
                )
                for kind in ("retention", "redaction")
            ),
            *checks(
                request_kind_known=Q(kind__in=["deletion", "export", "retention", "redaction"]),
                request_status_known=Q(
                    status__in=["accepted", "on_hold", "processing", "completed", "failed", "cancelled", "rejected"]
                ),
                request_waiting_known=Q(waiting_for__isnull=True) | Q(waiting_for__in=["extracts", "turn", "rows"]),
                request_cutoff_is_whole=Q(kind__in=["export", "redaction"])
                | Q(cutoff_at__isnull=True, cutoff_number__isnull=True)
                | Q(cutoff_at__isnull=False, cutoff_number__isnull=False),
                request_lane_known=Q(lane__in=["normal", "split", "isolated", "large", "client"]),
                request_deadline_known=Q(deadline__regex=DEADLINE),
                request_extension_is_whole=Q(extended_at__isnull=True, extended_by="", extension_reason__isnull=True)
                | Q(extended_at__isnull=False, extension_reason__in=["complexity", "number_of_requests"]),
                request_csv_dialect_known=Q(csv_dialect__in=["standard", "excel_comma", "excel_semicolon"]),
                request_formats_known=Q(formats__in=SETS_OF_FORMATS),
                request_archive_known=Q(archive__in=["", "zip"]),
                request_hold_has_reason=Q(status="on_hold", hold_reason__isnull=False, held_at__isnull=False)
                | (~Q(status="on_hold") & Q(hold_reason__isnull=True)),
                request_has_one_selector=Q(variable__isnull=False, named_conversations__isnull=True)
                | Q(variable__isnull=True, uci_value__isnull=True, uci_digest__isnull=True),
                request_open_names_somebody=~Q(status__in=["accepted", "on_hold", "processing"])
                | Q(uci_value__isnull=False, uci_digest__isnull=False)
                | Q(named_conversations__isnull=False)
                | Q(kind__in=["retention", "redaction"])
                # The ledger contains only the digest, and the value may not be stored anywhere any more.
                | Q(origin="replay", uci_digest__isnull=False),
                request_names_some_conversations=Q(named_conversations__range=(1, 100)),
                request_final_forgets_chatter=~Q(status__in=["completed", "cancelled", "rejected"])
                | Q(uci_value__isnull=True),
                request_completed_has_result=Q(status="completed", completed_at__isnull=False, result__isnull=False)
                | (~Q(status="completed") & Q(completed_at__isnull=True, result__isnull=True)),
                request_failed_has_error=~Q(status="failed") | (Q(failed_at__isnull=False) & ~Q(error_code="")),
                request_processing_has_start=~Q(status="processing") | Q(started_at__isnull=False),
                request_claimed_is_open=Q(claim__isnull=True) | Q(status__in=["accepted", "processing"]),
                request_reference_shape=Q(reference="") | Q(reference__regex=REFERENCE),
                request_callback_url_shape=Q(callback_url="") | Q(callback_url__regex=CALLBACK_URL),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.pk}"

    @property
    def is_folder(self) -> bool:
        """Whether an export is a folder of files, whose own object is a manifest."""
        return self.formats != Chatbot.ExportFormat.CSV and not self.archive

    @property
    def has_files_beside(self) -> bool:
        """Whether an export can have files beside its own: copies of uploaded files, or those of its formats."""
        return self.is_folder or (self.include_files and not self.archive)

    @property
    def conversation_digests(self) -> list[bytes] | None:
        """The keyed digests of its conversations, or None. `requests.insert` stores the digests that are set here."""
        if self.named_conversations is None:
            return None
        return list(self.given_digests) or [bytes(one) for one in self.subjects.values_list("digest", flat=True)]

    @conversation_digests.setter
    def conversation_digests(self, digests: list[bytes] | None) -> None:
        self.given_digests = list(dict.fromkeys(digests or ()))
        self.named_conversations = len(self.given_digests) or None

    @property
    def selector(self) -> Selector:
        """The selector type, which is known even after the value is cleared."""
        if self.kind == self.Kind.RETENTION:
            return self.Selector.AGE
        if self.kind == self.Kind.REDACTION:
            return self.Selector.MESSAGES
        return self.Selector.UCI if self.variable_id is not None else self.Selector.CONVERSATIONS
