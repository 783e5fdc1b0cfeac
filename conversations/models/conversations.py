"""The personal data: conversations with their identities, messages and variables' values.

Every table has `chatbot`, and a composite foreign key (migration 0002) makes a child's chatbot that of its
conversation, except for `NameWord`. So the data can be distributed by chatbot (docs/explanation/citus.md): unique
constraints have it as their last column, and every statement has a condition on it. `compliance/inventory.py`
declares the effect of erasure on each field; the constraint `conversation_erased_holds_nothing` is the last defence.
"""

from datetime import UTC, datetime

from django.db import models
from django.db.models import F, Q
from django.db.models.lookups import Exact

from chatbots.models import Chatbot, Variable
from common.folding import LONGEST_WORD
from common.tables import Named, checks
from conversations.models.assurance import Assurance
from conversations.sql import VALUE_HASH

# Always true of a stored time: the condition of indexes that begin with the chatbot. PostgreSQL then uses them only
# if a statement has a condition on the time. All statements have one on chatbots, and PostgreSQL expects a single row
# of a chatbot that is newer than the statistics: it would read the whole chatbot by such an index. `variable > 0`
# does the same for identities.
EARLIEST = datetime(1, 1, 1, tzinfo=UTC)

# In SQL, so that the session's time zone does not matter: an erased conversation keeps only the UTC day it began.
_STARTED_AT_IS_A_UTC_DAY = Exact(
    models.Func(
        F("started_at"), template="(%(expressions)s AT TIME ZONE 'UTC')", output_field=models.DateTimeField()
    ),
    models.Func(
        F("started_at"),
        template="date_trunc('day', %(expressions)s AT TIME ZONE 'UTC')",
        output_field=models.DateTimeField(),
    ),
)


class Conversation(models.Model):
    """One conversation. Its number is `id`; `external_id` is the platform's own id.

    It is live, marked (`deletion_request_id` is set: closed, nothing more is stored in it) or erased (`deleted_at` is
    set too: a "Deleted conversation" with only its kept fields).
    """

    class Channel(models.TextChoices):
        WIDGET = "widget", "Web widget"
        WHATSAPP = "whatsapp", "WhatsApp"
        MESSENGER = "messenger", "Messenger"
        WECHAT = "wechat", "WeChat"
        MESSAGING_API = "messaging_api", "Messaging API"
        OTHER = "other", "Other"

    class CsatVote(models.TextChoices):
        POSITIVE = "positive", "Positive"
        NEUTRAL = "neutral", "Neutral"
        NEGATIVE = "negative", "Negative"

    chatbot = models.ForeignKey(Chatbot, on_delete=models.PROTECT, related_name="+", db_index=False)
    external_id = models.CharField(max_length=200, null=True)
    # HMAC of external_id, set at intake. It outlives the id for ERASURE_LEDGER_DAYS, so that a document for an erased
    # conversation finds the erased row, even in a race.
    external_id_digest = models.BinaryField(null=True, max_length=32)
    uci_variable = models.ForeignKey(
        Variable, null=True, on_delete=models.PROTECT, related_name="+", db_constraint=False, db_index=False
    )
    channel = models.CharField(max_length=16, choices=Channel)
    language = models.CharField(max_length=35, null=True)
    user_name = models.CharField(max_length=200, null=True)
    started_at = models.DateTimeField()
    last_message_at = models.DateTimeField(null=True)
    message_count = models.PositiveIntegerField(null=True, default=0)
    has_file_upload = models.BooleanField(default=False)
    has_agent_handover = models.BooleanField(default=False)
    has_push = models.BooleanField(default=False)
    score = models.DecimalField(max_digits=3, decimal_places=1, null=True)
    csat_score = models.PositiveSmallIntegerField(null=True)
    csat_vote = models.CharField(max_length=8, choices=CsatVote, null=True)
    csat_comment = models.TextField(null=True)
    # Then no document brings a comment back.
    csat_comment_redacted = models.BooleanField(default=False, db_default=False)
    deletion_request_id = models.UUIDField(null=True)
    deleted_at = models.DateTimeField(null=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                name="conversation_id_once_per_chatbot", fields=["external_id_digest", "chatbot"]
            ),
            # The target of the children's composite foreign keys.
            models.UniqueConstraint(name="conversation_of_chatbot", fields=["id", "chatbot"]),
            *checks(
                conversation_channel_known=Q(
                    channel__in=["widget", "whatsapp", "messenger", "wechat", "messaging_api", "other"]
                ),
                conversation_score_in_range=Q(score__isnull=True) | Q(score__gte=1, score__lte=10),
                conversation_csat_score_in_range=Q(csat_score__isnull=True)
                | Q(csat_score__gte=0, csat_score__lte=10),
                conversation_csat_vote_known=Q(csat_vote__isnull=True)
                | Q(csat_vote__in=["positive", "neutral", "negative"]),
                conversation_redacted_has_no_comment=Q(csat_comment_redacted=False) | Q(csat_comment__isnull=True),
                conversation_live_has_id=Q(deleted_at__isnull=False)
                | Q(external_id__isnull=False, external_id_digest__isnull=False, message_count__isnull=False),
                conversation_erased_was_marked=Q(deleted_at__isnull=True) | Q(deletion_request_id__isnull=False),
                conversation_erased_holds_nothing=Q(deleted_at__isnull=True)
                | (
                    Q(
                        external_id__isnull=True,
                        uci_variable__isnull=True,
                        language__isnull=True,
                        user_name__isnull=True,
                        last_message_at__isnull=True,
                        message_count__isnull=True,
                        csat_comment__isnull=True,
                    )
                    & Q(_STARTED_AT_IS_A_UTC_DAY)
                ),
            ),
        ]
        indexes = [
            # The log of one chatbot, newest first, with the columns of its filters: they scan the index, and read
            # only the rows that match.
            models.Index(
                fields=["chatbot", "-started_at", "-id"],
                condition=Q(started_at__gt=EARLIEST),
                include=[
                    "channel",
                    "language",
                    "score",
                    "has_agent_handover",
                    "has_push",
                    "has_file_upload",
                    "csat_score",
                    "csat_vote",
                    "deletion_request_id",
                    "deleted_at",
                ],
                name="conversation_log",
            ),
            # The log of one channel. PostgreSQL 18 skips over the channels, so it needs EARLIEST as well.
            models.Index(
                F("channel"),
                F("chatbot"),
                F("started_at").desc(),
                F("id").desc(),
                condition=Q(started_at__gt=EARLIEST),
                name="conversation_log_channel",
            ),
            # The log's closed conversations, marked or erased. With statistics from before a deletion, PostgreSQL
            # takes this index for empty: without EARLIEST it would read all of it to find the marked conversations.
            models.Index(
                F("chatbot"),
                F("started_at").desc(),
                F("id").desc(),
                name="conversation_log_closed",
                condition=Q(started_at__gt=EARLIEST, deletion_request_id__isnull=False),
            ),
            # Open conversations in the order of their numbers: a retention run examines all of a chatbot, in slices.
            models.Index(
                name="conversation_open",
                fields=["chatbot", "id"],
                condition=Q(deletion_request_id__isnull=True, started_at__gt=EARLIEST),
            ),
            # Marked conversations that are not erased yet. Empty when no deletion is running.
            models.Index(
                name="conversation_marked",
                fields=["deletion_request_id"],
                condition=Q(deletion_request_id__isnull=False, deleted_at__isnull=True),
            ),
            # Erased conversations whose digest is still kept, by age.
            models.Index(
                name="conversation_digest_kept",
                fields=["deleted_at"],
                condition=Q(deleted_at__isnull=False, external_id_digest__isnull=False),
            ),
            # All conversations that a deletion has marked, erased or not: for its files, ledger and verification. The
            # chatbot is included: if statistics contain a single mark, as after a first retention run, PostgreSQL
            # takes a chatbot for rarer than a mark, and would read all of its conversations by another index.
            models.Index(
                name="conversation_of_deletion",
                fields=["deletion_request_id", "chatbot"],
                condition=Q(deletion_request_id__isnull=False),
            ),
        ]

    def __str__(self) -> str:
        return "Deleted conversation" if self.deleted_at else f"conversation {self.pk}"

    @property
    def is_closed(self) -> bool:
        """Return whether it is marked or erased. Then it cannot be opened, and only its kept fields may be shown."""
        return self.deletion_request_id is not None


class _OfConversation(Named):
    """A row of a conversation of the same chatbot: the composite foreign key has both columns."""

    chatbot = models.ForeignKey(
        Chatbot, on_delete=models.DO_NOTHING, related_name="+", db_constraint=False, db_index=False
    )
    conversation = models.ForeignKey(Conversation, on_delete=models.DO_NOTHING, db_constraint=False, db_index=False)

    class Meta:
        abstract = True


class Identity(_OfConversation):
    """A conversation's UCI value. Only added, never overwritten; two if two people used one window.

    `established_by` is the source of the value. A stronger source of the same value replaces a weaker one. No other
    field of an identity ever changes.

    Erasing deletes it, or only its value and `look`: while a copy of the conversation may exist (a file, an export, a
    daily extract) the keyed digest is kept, so that each deletion of the chatter finds the copy.
    """

    class EstablishedBy(models.TextChoices):
        """The source of a value, which determines its reliability. Several sources are equally strong."""

        USER_CHANNEL = "user_channel", "Claimed through the user channel"
        CUSTOM = "custom", "Said by the platform"
        ASSERTED = "asserted", "Asserted by the client's server"
        SIGNED = "signed", "Signed by the client's backend"
        RESOLVED = "resolved", "Resolved at the client's address"

        @property
        def assurance(self) -> Assurance:
            match self:
                case Identity.EstablishedBy.USER_CHANNEL:
                    return Assurance.USER_CHANNEL
                case Identity.EstablishedBy.CUSTOM:
                    return Assurance.PLATFORM
                case _:
                    return Assurance.VERIFIED

        def is_stronger_than(self, other: "Identity.EstablishedBy") -> bool:
            return self.assurance.rank > other.assurance.rank

    variable = models.ForeignKey(
        Variable, on_delete=models.DO_NOTHING, related_name="+", db_constraint=False, db_index=False
    )
    value = models.CharField(max_length=512, null=True)
    digest = models.BinaryField(max_length=32)  # as ComplianceRequest.uci_digest
    # `common.folding.look_hash` of the value, for finding similar ones. It is not keyed: it is stored beside the
    # value and removed with it, so it reveals nothing more. Nothing else depends on it.
    look = models.BigIntegerField(null=True, editable=False)
    # The weakest for a writer without one.
    established_by = models.CharField(
        max_length=12, choices=EstablishedBy, db_default=EstablishedBy.USER_CHANNEL, editable=False
    )

    class Meta:
        verbose_name_plural = "identities"
        constraints = [
            models.UniqueConstraint(name="identity_once", fields=["conversation", "variable", "digest", "chatbot"]),
            *checks(
                identity_value_not_empty=~Q(value=""),
                identity_look_goes_with_value=Q(value__isnull=False) | Q(look__isnull=True),
                # Required: without a digest, no request finds the identity.
                identity_digest_is_whole=Exact(
                    models.Func(F("digest"), function="octet_length", output_field=models.IntegerField()), 32
                ),
                identity_established_by_known=Q(
                    established_by__in=["user_channel", "custom", "asserted", "signed", "resolved"]
                ),
            ),
        ]
        indexes = [
            # The conversations of one chatter: every deletion and export begins with this index.
            models.Index(
                name="identity_chatter", fields=["chatbot", "variable", "digest"], condition=Q(variable__gt=0)
            ),
            # Values that look like another one. Each is found once, however often it is stored. A search states no
            # `variable > 0`, so that PostgreSQL does not read all values of the chatbot by `identity_chatter`.
            models.Index(
                F("chatbot"),
                F("look"),
                F("variable"),
                VALUE_HASH,
                name="identity_look",
                condition=Q(look__isnull=False),
            ),
        ]


class Message(_OfConversation):
    class Sender(models.TextChoices):
        USER = "user", "User"
        BOT = "bot", "Bot"
        AGENT = "agent", "Agent"

    class Kind(models.TextChoices):
        TEXT = "text", "Text"
        QUICK_REPLY = "quick_reply", "Quick reply"
        PUSH = "push", "Push"
        FILE = "file", "File"
        EVENT = "event", "Event"
        REDACTED = "redacted", "Redacted"

    external_id = models.CharField(max_length=200)
    sender = models.CharField(max_length=8, choices=Sender)
    kind = models.CharField(max_length=16, choices=Kind)
    text = models.TextField()
    sent_at = models.DateTimeField()

    class Meta:
        constraints = [
            # Also finds a conversation's messages.
            models.UniqueConstraint(
                name="message_id_once_per_conversation", fields=["conversation", "external_id", "chatbot"]
            ),
            *checks(
                message_sender_known=Q(sender__in=["user", "bot", "agent"]),
                message_kind_known=Q(kind__in=["text", "quick_reply", "push", "file", "event", "redacted"]),
                # A message that is sent again with the same id is not stored.
                message_redacted_holds_nothing=~Q(kind="redacted") | Q(text=""),
            ),
        ]
        indexes = [
            # The messages of a day, for the daily extract.
            models.Index(name="message_of_day", fields=["chatbot", "sent_at"], condition=Q(sent_at__gt=EARLIEST)),
        ]


class VariableValue(_OfConversation):
    """The last value of a variable in a conversation, kept for VARIABLE_DAYS.

    Values of a present or former UCI are not here: none is stored after its designation, and the next sweep deletes
    earlier ones.
    """

    variable = models.ForeignKey(
        Variable, on_delete=models.DO_NOTHING, related_name="+", db_constraint=False, db_index=False
    )
    value = models.TextField()
    expires_at = models.DateTimeField()

    class Meta:
        constraints = [
            models.UniqueConstraint(name="variablevalue_once", fields=["conversation", "variable", "chatbot"]),
        ]
        indexes = [
            # What has expired.
            models.Index(name="variablevalue_expiry", fields=["expires_at"]),
        ]


class NameWord(_OfConversation):
    """A folded word (`common.folding`) of the conversation's user name, for the console's look-up.

    It is written and replaced together with the name. In the order of bytes, a word's beginning is a range of an
    index. Migration 0002 keeps words out of PostgreSQL's statistics. There is no foreign key, since its check takes
    more time than the rest of storing a word: intake writes only words of conversations that it has just locked or
    stored.
    """

    pk = models.CompositePrimaryKey("conversation_id", "word", "chatbot_id")
    word = models.CharField(max_length=LONGEST_WORD, db_collation="C")

    class Meta:
        indexes = [
            # Conversations by a word or its beginning, the last stored ones at the end. The condition is always true,
            # as that of EARLIEST: whether a conversation has a word is found by the primary key.
            models.Index(
                name="nameword_lookup", fields=["chatbot", "word", "conversation"], condition=Q(word__gt="")
            ),
        ]

    def __str__(self) -> str:
        # Without its key, of which the word is a part.
        return f"word of conversation {self.conversation_id}"
