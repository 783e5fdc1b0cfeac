"""THE MAP of each model and field that can hold personal data: how its rows are reached, and their disposition.

The erasure engine deletes and empties the declared fields, `verify` checks them, and `manage.py data_map` prints
them. A system check and a test walk the app registry: a model or field that is declared
nowhere stops the project from starting, with instructions. So:

- a new model with personal data gets a `Store`; say how its rows are reached and what happens to each field;
- a new field of a known model gets a line in its `Store`;
- a model that cannot hold a chatter's data goes into `outside`, with the reason and its free columns.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from django.apps import apps
from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import Model

from compliance import models as compliance
from compliance.outside import EXCEPTIONS, OUTSIDE
from conversations import models as conversations


class ReachedBy(StrEnum):
    """How a row is reached from the subject of a request."""

    ITSELF = "is the conversation"
    CONVERSATION = "by its conversation"
    FILE = "by its conversation, after its object in storage is gone"
    CHATTER = "by variable and keyed digest of the UCI value, or by keyed digests of conversations' ids"
    DAY = "by the days on which the erased messages were sent"
    COPY = "by its conversation; it records where a copy of that is; it names no chatter"
    REQUEST = "by its request; it names no chatter"
    CALL = "by the keyed digest of a call; it names no chatter"


class Disposition(StrEnum):
    DELETED = "deleted with its row"
    EMPTIED = "set to null"
    DAY = "reduced to its UTC day"
    LEDGER = "kept for ERASURE_LEDGER_DAYS at most, then emptied, or deleted with its row"
    EXPIRES = "deleted with its row when its time is over"
    KEPT = "kept"


Declared = tuple[Disposition, str]


@dataclass(frozen=True)
class Store:
    model: type[Model]
    way: ReachedBy
    fields: Mapping[str, Declared]
    counter: str = ""  # the request's counter of erased rows; empty if they are not counted

    @property
    def table(self) -> str:
        return self.model._meta.db_table

    def with_disposition(self, disposition: Disposition) -> tuple[str, ...]:
        """Return the column names of the fields with this disposition."""
        return tuple(
            str(self.model._meta.get_field(name).column)  # type: ignore[union-attr]
            for name, (declared, _) in self.fields.items()
            if declared is disposition
        )


def _all(names: str, disposition: Disposition, reason: str = "") -> dict[str, Declared]:
    """Declare several fields alike; their names are separated by spaces."""
    return dict.fromkeys(names.split(), (disposition, reason))


CONVERSATION = Store(
    conversations.Conversation,
    ReachedBy.ITSELF,
    {
        "id": (Disposition.KEPT, "the conversation's number: that it took place counts for billing"),
        "chatbot": (Disposition.KEPT, "which client's data it is; not the chatter"),
        "external_id": (Disposition.EMPTIED, "the platform's id can be personal"),
        "external_id_digest": (Disposition.LEDGER, "refuses late documents for the erased conversation"),
        "uci_variable": (Disposition.EMPTIED, "part of who the person was"),
        "channel": (Disposition.KEPT, "closed list of values, for analytics"),
        "language": (Disposition.EMPTIED, "free text of the platform"),
        "user_name": (Disposition.EMPTIED, "names the person"),
        "started_at": (Disposition.DAY, "the day counts for billing; the instant could single the person out"),
        **_all("last_message_at message_count", Disposition.EMPTIED, "could single the person out"),
        **_all("has_file_upload has_agent_handover has_push", Disposition.KEPT, "yes or no, for analytics"),
        **_all("score csat_score", Disposition.KEPT, "a number in a closed range, for analytics"),
        "csat_vote": (Disposition.KEPT, "closed list of values, for analytics"),
        "csat_comment": (Disposition.EMPTIED, "what the person wrote"),
        "csat_comment_redacted": (Disposition.KEPT, "yes or no: whether a redaction removed the comment"),
        "deletion_request_id": (Disposition.KEPT, "why it was deleted"),
        "deleted_at": (Disposition.KEPT, "when we erased it; says nothing of the person"),
    },
)

_BY_DIGEST = (
    "deleted with its row at once; its digest stays while a file, export or extract may still hold the conversation, "
    "so that the deletion of that copy finds it"
)

STORES: tuple[Store, ...] = (
    Store(
        conversations.Message,
        ReachedBy.CONVERSATION,
        _all("id chatbot conversation external_id sender kind text sent_at", Disposition.DELETED),
        counter="messages",
    ),
    Store(
        conversations.Identity,
        ReachedBy.CONVERSATION,
        {
            **_all("value look", Disposition.DELETED),
            **_all("id chatbot conversation variable digest established_by", Disposition.LEDGER, _BY_DIGEST),
        },
        counter="identities",
    ),
    Store(
        conversations.VariableValue,
        ReachedBy.CONVERSATION,
        _all("id chatbot conversation variable value expires_at", Disposition.DELETED),
        counter="variable_values",
    ),
    Store(
        conversations.NameWord,
        ReachedBy.CONVERSATION,
        _all("chatbot conversation word", Disposition.DELETED),
    ),
    Store(
        conversations.IdentityLookup,
        ReachedBy.CONVERSATION,
        _all(
            "id chatbot conversation state attempts queued_at next_attempt_at token give_up_at last_error "
            "finished_at expires_at has_gap",
            Disposition.DELETED,
        ),
    ),
    Store(
        conversations.UploadedFile,
        ReachedBy.FILE,
        _all(
            "id chatbot conversation message_id object_key upload_id name content_type size sha256 state created_at",
            Disposition.DELETED,
        ),
        counter="files",
    ),
    Store(
        conversations.RefusedIdentity,
        ReachedBy.CONVERSATION,
        _all(
            "id chatbot conversation request_id way at expires_at",
            Disposition.DELETED,
            "that an erased chatter was named in the conversation; expires with the digest of that chatter",
        ),
    ),
    CONVERSATION,
    Store(
        conversations.Tombstone,
        ReachedBy.CHATTER,
        _all(
            "id chatbot kind variable digest conversation_digest erased_at cutoff_at cutoff_number request_id "
            "expires_at",
            Disposition.EXPIRES,
            "refuses for ERASURE_LEDGER_DAYS what is sent again of an erased chatter, conversation or message",
        ),
    ),
    Store(
        compliance.ComplianceRequest,
        ReachedBy.CHATTER,
        {
            "uci_value": (Disposition.EMPTIED, "the person; emptied when the request is final"),
            "uci_digest": (
                Disposition.LEDGER,
                "answers whether this chatter was erased; until then, finds an export in a client's bucket",
            ),
            "message_digests": (Disposition.LEDGER, "the messages of a redaction, for the ledger"),
            "named_conversations": (Disposition.LEDGER, "how many conversations it names, as long as their digests"),
            **_all(
                "id chatbot kind seq origin status hold_reason pending_export_id variable erase_exports "
                "include_files include_shared csv_dialect formats archive "
                "received_at requested_at queued_at not_before "
                "deadline due_at extended_at extended_by extension_reason answered_at "
                "held_at started_at cutoff_at cutoff_number slice waiting_for completed_at failed_at cancelled_at "
                "rejected_at approved_at approved_by approved_holds filed_by claim attempts lane result error_code "
                "error_detail withholds continues",
                Disposition.KEPT,
                "the record that the request was made and met",
            ),
            "reference": (
                Disposition.LEDGER,
                "the client's own ticket; refused, or emptied at once, with a value or an id of the request's",
            ),
            "callback_url": (
                Disposition.EMPTIED,
                "the client's own address, until the final state is delivered; must have neither UCI value nor id",
            ),
            **_all(
                "conversations_total erased_before conversations shared_conversations messages identities "
                "variable_values files exports extracts extracts_left unverified_left_out csat_comments withheld "
                "assurance_user_channel assurance_platform assurance_verified",
                Disposition.KEPT,
                "how much was done; a count of ours",
            ),
        },
    ),
    Store(
        compliance.RequestSubject,
        ReachedBy.CHATTER,
        _all("id chatbot request digest", Disposition.LEDGER, "names a conversation; kept as long as a `uci_digest`"),
    ),
    Store(
        compliance.LegalHold,
        ReachedBy.CHATTER,
        {
            "value_encrypted": (Disposition.EMPTIED, "the person; emptied when the hold is released"),
            "uci_digest": (Disposition.LEDGER, "finds the held data; kept as long as the `matter`"),
            "matter": (
                Disposition.LEDGER,
                "the client's file number; refused, or emptied after the release, with a person of the hold's",
            ),
            **_all(
                "id chatbot scope variable began_from began_before basis disclosure placed_at placed_by review_at "
                "reviewed_at reviewed_by released_at released_by release_reason",
                Disposition.KEPT,
                "the record that data was held, from when to when, and by whose decision",
            ),
        },
    ),
    Store(
        compliance.LegalHoldConversation,
        ReachedBy.CHATTER,
        _all("id chatbot hold digest", Disposition.LEDGER, "names a held conversation; kept as long as a `matter`"),
    ),
    Store(
        compliance.Export,
        ReachedBy.CHATTER,
        {
            "key": (Disposition.EMPTIED, "contains the UCI value; emptied when the object is removed"),
            **_all(
                "id chatbot request hosting bucket endpoint rows bytes sha256 upload_id finished_at "
                "expires_at last_copy_since removed_at was_left_in_former_bucket",
                Disposition.KEPT,
                "that an export was created, and its size; names no chatter",
            ),
        },
    ),
    Store(
        compliance.ExportFile,
        ReachedBy.CHATTER,
        {
            "key": (Disposition.DELETED, "contains the UCI value; deleted with the object"),
            **_all("id chatbot export file_id bytes sha256", Disposition.DELETED),
        },
    ),
    Store(
        conversations.DailyExtract,
        ReachedBy.DAY,
        _all(
            "id chatbot day starts_at ends_at state version made_version hosting bucket key upload_id "
            "was_left_in_former_bucket rows bytes sha256 finished_at expires_at stale_at token owner "
            "next_attempt_at attempts error_code error_detail created_at",
            Disposition.KEPT,
            "that a day's file was created, and its size; a hosted file is rebuilt without the chatter",
        ),
    ),
    Store(
        conversations.ExtractConversation,
        ReachedBy.COPY,
        _all(
            "id chatbot conversation_id extract version",
            Disposition.LEDGER,
            "which days' files an erased conversation was in; two numbers of ours",
        ),
    ),
    Store(
        compliance.ExportConversation,
        ReachedBy.COPY,
        _all(
            "id chatbot export conversation_id",
            Disposition.LEDGER,
            "which exports hold a conversation; deleted with the object; two numbers of ours",
        ),
    ),
    Store(
        compliance.LeftCopy,
        ReachedBy.REQUEST,
        _all(
            "id chatbot deletion export extract is_unfinished",
            Disposition.KEPT,
            "which copies a deletion left where they are; names no chatter",
        ),
    ),
    Store(
        compliance.Callback,
        ReachedBy.REQUEST,
        {
            "url": (Disposition.EMPTIED, "the client's own address, until delivered or given up: a day at most"),
            **_all(
                "id chatbot request deadline_event status hold_reason result error_code occurred_at state attempts "
                "next_attempt_at token give_up_at last_status last_error created_at delivered_at "
                "expires_at",
                Disposition.EXPIRES,
                "that the client was notified of its request: codes and times, for CALLBACK_DAYS",
            ),
        },
    ),
    Store(
        compliance.RequestNote,
        ReachedBy.CHATTER,
        {
            "text": (
                Disposition.EMPTIED,
                "free words of staff, which may name the person; at the latest after ERASURE_LEDGER_DAYS",
            ),
            **_all(
                "id chatbot request entry_id created_at",
                Disposition.KEPT,
                "that there was a note on a decision, and when",
            ),
        },
    ),
    Store(
        compliance.RetentionRun,
        ReachedBy.REQUEST,
        _all(
            "id chatbot day request retention_days older_than announced previous_days examined_number left_out "
            "is_replayed "
            "created_at",
            Disposition.KEPT,
            "that a day's retention run took place, for which period, and how many conversations it left out",
        ),
    ),
    Store(
        compliance.Redaction,
        ReachedBy.REQUEST,
        _all(
            "id chatbot request conversation_id message_numbers csat_comment reason",
            Disposition.KEPT,
            "which messages were redacted, by numbers of ours, whether the CSAT comment was, and a code for why",
        ),
    ),
    Store(
        compliance.RepeatedExport,
        ReachedBy.REQUEST,
        _all(
            "id chatbot redaction removed repeat",
            Disposition.KEPT,
            "which export was filed again because of a redaction; requests alone",
        ),
    ),
    Store(
        compliance.LedgerLine,
        ReachedBy.REQUEST,
        _all(
            "request_id kind chatbot line conversation_digests key at incarnation plan numbers conversations outcome",
            Disposition.LEDGER,
            "what a replay carries out again, by public ids and keyed digests",
        ),
    ),
    Store(
        compliance.Replay,
        ReachedBy.CALL,
        _all(
            "id chatbot path digest body_digest request existing expires_at",
            Disposition.EXPIRES,
            "gives a repeated call the same answer for 10 minutes, or 24 hours",
        ),
    ),
)


def stores(way: ReachedBy) -> tuple[Store, ...]:
    """Return the stores that are reached this way, in the order in which they are erased."""
    return tuple(store for store in STORES if store.way is way)


def is_free(field: "models.Field[Any, Any]") -> bool:
    """Return whether a column can hold any words: no type or list of choices limits it."""
    if isinstance(field, ArrayField):
        return is_free(field.base_field)
    texts = (models.CharField, models.TextField, models.JSONField, models.BinaryField, models.GenericIPAddressField)
    return isinstance(field, texts) and not field.choices


def undeclared() -> Iterator[str]:
    """Yield one instruction for each model or field in the app registry that is declared nowhere."""
    declared = {store.model: store for store in STORES}
    for model in apps.get_models(include_auto_created=True):
        label = model._meta.label
        if model._meta.proxy or label in EXCEPTIONS:
            continue
        store, outside = declared.get(model), OUTSIDE.get(label)
        if store is None and outside is None:
            yield (
                f"{label} is not in compliance/inventory.py. If it can hold a chatter's data, add a Store with the "
                "disposition of each field; if not, add it to compliance/outside.py with the reason and its free "
                "columns."
            )
            continue
        fields = {field.name for field in model._meta.concrete_fields if store or is_free(field)}
        known = set(store.fields) if store else set(outside.columns.split() if outside else ())
        place = "disposition in compliance/inventory.py" if store else "mention in compliance/outside.py"
        for name in sorted(fields - known):
            yield f"{label}.{name} has no {place}: add it to what is declared of the model."
        for name in sorted(known - fields):
            yield f"{label}.{name} has a {place} but does not exist, or is not free: remove it there."
