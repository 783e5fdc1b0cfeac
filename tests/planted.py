"""Payloads in every column of text that anyone can set, whichever way: past all that validates it.

`COLUMNS` and `OURS` name every column of text that there is: a test fails until a new one is added to one of them.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

from django.apps import apps
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import User
from django.contrib.contenttypes.models import ContentType
from django.contrib.postgres.fields import ArrayField
from django.db.models import JSONField, Model, Q
from django.db.models.fields import CharField, TextField
from django.utils import timezone

from chatbots.models import ApiKey, Bucket, BucketCheck, BucketCredential, ChangeLogEntry, Chatbot, Resolver, Variable
from compliance.models import (
    Callback,
    Claim,
    ComplianceRequest,
    Export,
    ExportFile,
    Heartbeat,
    LegalHold,
    RequestNote,
)
from conversations.models import Conversation, DailyExtract, Identity, Message, UploadedFile, VariableValue
from tests.factories import (
    BucketCredentialFactory,
    CallbackFactory,
    ClaimFactory,
    VariableFactory,
    VariableValueFactory,
    deletion_of,
)
from tests.holding import place, release
from tests.payloads import SCRIPT_ADDRESS, payload

# Longer than all the pieces of a payload.
_MOST = 600

APPS = ("accounts", "chatbots", "conversations", "compliance")


@dataclass(frozen=True, eq=False)
class Column:
    """A column that is filled, in the rows of `only`. `form` is its text with `{}` for the payload, which is
    `without` some characters.

    `shown`: some page of the console shows it, as text.
    """

    model: type[Model]
    name: str
    shown: bool = True
    form: str = "{}"
    without: str = ""
    only: Q = field(default_factory=Q)

    def __str__(self) -> str:
        return f"{self.model._meta.label}.{self.name}"

    @property
    def code(self) -> str:
        """What its texts begin with, and no other's."""
        return f"q{COLUMNS.index(self):02}z"

    def text(self, *, turn: int, row: int) -> str:
        """Return its text in a turn, another one for each row."""
        column: Any = self.model._meta.get_field(self.name)
        start = f"{self.code}{row}"
        most = min(_MOST, column.max_length or _MOST) - len(self.form) - len(start)
        if turn < 0 and self.form == "{}":
            return f"{SCRIPT_ADDRESS[:most]}{start}"
        return self.form.format(start + payload(most=most, turn=turn * 3 + COLUMNS.index(self), without=self.without))


# What an address may not have (`chatbots.callback_urls.CALLBACK_URL`): in its host, and in its path.
_NOT_IN_HOSTS, _NOT_IN_PATHS = r"[\s\u2028/?#@\[\]]", r"[\s\u2028?#]"

_HOOK = {"form": "https://{}/hook", "without": _NOT_IN_HOSTS}
_LIVE, _FAILED = Q(deleted_at=None), ~Q(error_code="")


def _of(model: type[Model], *names: str, **options: Any) -> list[Column]:
    return [Column(model, name, **options) for name in names]


COLUMNS = (
    *_of(User, "username", "first_name", "last_name", "email"),
    *_of(LogEntry, "object_repr", shown=False),
    *_of(LogEntry, "change_message"),
    *_of(Chatbot, "name"),
    *_of(Chatbot, "callback_url", **_HOOK),
    *_of(Variable, "name", only=Q(category="custom")),
    *_of(ApiKey, "label"),
    *_of(ApiKey, "public_key", shown=False, only=~Q(public_key="")),
    *_of(BucketCredential, "label", "access_key_id", "created_by", "failure"),
    *_of(Bucket, "bucket", "region"),
    *_of(Bucket, "prefix", form="{}/"),
    *_of(Bucket, "endpoint", "kms_key_id", "last_error"),
    *_of(Bucket, "access_key_id", only=~Q(access_key_id="")),
    *_of(Bucket, "role_arn", "external_id", only=~Q(role_arn="")),
    *_of(BucketCheck, "error"),
    *_of(ChangeLogEntry, "actor", "data"),
    *_of(Resolver, "url", shown=False, form="https://{}/who", without=_NOT_IN_HOSTS),
    *_of(Resolver, "pointer", shown=False, form="/{}", without="[~]"),
    *_of(Conversation, "external_id", "language", "user_name", "csat_comment", only=_LIVE),
    *_of(Identity, "value", only=~Q(value=None)),
    *_of(Message, "external_id", shown=False),
    *_of(Message, "text"),
    *_of(UploadedFile, "name", "content_type"),
    *_of(VariableValue, "value"),
    *_of(DailyExtract, "bucket"),
    *_of(DailyExtract, "key", shown=False, only=~Q(key=None)),
    *_of(DailyExtract, "error_detail", only=_FAILED),
    *_of(ComplianceRequest, "uci_value", shown=False, only=~Q(uci_value=None)),
    *_of(ComplianceRequest, "callback_url", shown=False, form="https://hooks.example.com/{}", without=_NOT_IN_PATHS),
    *_of(ComplianceRequest, "filed_by"),
    *_of(ComplianceRequest, "approved_by", only=~Q(approved_by="")),
    *_of(ComplianceRequest, "error_detail", only=_FAILED),
    *_of(Export, "bucket", "endpoint"),
    *_of(Export, "key", shown=False, only=~Q(key=None)),
    *_of(ExportFile, "key", shown=False),
    *_of(Callback, "url", only=~Q(url=""), **_HOOK),
    *_of(Claim, "owner"),
    *_of(Heartbeat, "name", "version"),
    *_of(RequestNote, "text"),
    *_of(LegalHold, "placed_by", "reviewed_by"),
    *_of(LegalHold, "released_by", only=~Q(released_by="")),
)

# Columns that no person and no client sets, or not as they like, by the reason.
_REASONS = {
    "a name that we make": """
        accounts.Authenticator.name chatbots.ApiKey.prefix chatbots.BucketCheck.owner
        compliance.Heartbeat.pid_scope compliance.JournalEntry.key_prefix compliance.LedgerLine.key
        compliance.LedgerObject.key compliance.LedgerObject.key_prefixes compliance.Replay.path
        conversations.DailyExtract.owner conversations.UploadedFile.object_key
    """,
    "always empty, by a constraint": "accounts.Authenticator.key",
    "encrypted, never shown": """
        accounts.Authenticator.secret_encrypted chatbots.ApiKey.secret_encrypted
        chatbots.Bucket.secret_encrypted chatbots.CallbackSecret.secret_encrypted
        compliance.Canary.token_encrypted compliance.LegalHold.value_encrypted
    """,
    "a number": "admin.LogEntry.object_id",
    "letters and digits of a name, read by no page": "conversations.NameWord.word",
    "a hash": "auth.User.password",
    "our own words": """
        chatbots.BucketCheck.steps compliance.CanaryTurn.findings compliance.CanaryTurn.logs
        compliance.CanaryTurn.trouble_at
    """,
    "a code of ours": """
        chatbots.ChangeLogEntry.event chatbots.Resolver.last_error compliance.Callback.error_code
        compliance.ComplianceRequest.error_code compliance.Export.hosting compliance.Mailbox.last_error
        conversations.DailyExtract.error_code conversations.DailyExtract.hosting
    """,
    "part of addresses: letters, digits, - and _ (a slug)": "chatbots.Chatbot.slug",
    "one of the zones that there are": "chatbots.Chatbot.timezone",
    "gdpr, ccpa or a number by a constraint": "chatbots.Chatbot.deadline compliance.ComplianceRequest.deadline",
    "an actor, shown as `approved_by` is": "compliance.ComplianceRequest.extended_by",
    "A-Z a-z 0-9 . _ : - by a constraint": "compliance.ComplianceRequest.reference compliance.LegalHold.matter",
    "a digest": """
        compliance.Export.sha256 compliance.ExportFile.sha256 conversations.DailyExtract.sha256
        conversations.UploadedFile.sha256
    """,
    "the storage's own name": """
        compliance.Export.upload_id conversations.DailyExtract.upload_id conversations.UploadedFile.upload_id
    """,
    "read by no page": "compliance.LedgerLine.line",
    "PostgreSQL's own number": "compliance.Service.server",
}
OURS = {column for columns in _REASONS.values() for column in columns.split()}


def columns_of_text() -> Iterator[str]:
    """Yield each column that can hold a text of one's own: not those of closed lists."""
    models: list[type[Model]] = [User, LogEntry]
    models += [model for app in APPS for model in apps.get_app_config(app).get_models()]
    for model in models:
        for column in model._meta.concrete_fields:
            if _is_text(column) and not column.choices:
                yield f"{model._meta.label}.{column.name}"


def _is_text(column: Any) -> bool:
    if isinstance(column, ArrayField):
        return _is_text(column.base_field) and not column.base_field.choices
    return isinstance(column, (CharField, TextField, JSONField))


def make_rows(chatbot: Chatbot, other: Chatbot, *, request: ComplianceRequest) -> None:
    """Add a row to each table with a column of `COLUMNS`, beside those of `something_of` and `busy`.

    `other` gets what excludes something of the first: a bucket with a role. `request` gets a note and an approval.
    """
    now = timezone.now()
    VariableFactory.create(chatbot=chatbot, name="payload", is_uci=False)
    client = {"hosting": "client", "region": "x", "sse": "aws:kms", "last_checked_at": now}
    Bucket.objects.filter(chatbot=chatbot).update(bucket="one", access_key_id="x", secret_encrypted="x", **client)
    Bucket.objects.filter(chatbot=other).update(bucket="two", role_arn="x", external_id="x", **client)
    BucketCheck.objects.create(chatbot=chatbot, finished_at=now)
    BucketCredentialFactory.create(
        chatbot=chatbot, place=2, active_at=None, revoking_at=now, revoked_at=now, failure="x"
    )
    Resolver.objects.create(
        chatbot=chatbot, url="https://x/y", variable_ids=[Variable.objects.filter(chatbot=chatbot).earliest("pk").pk]
    )
    VariableValueFactory.create(
        conversation=Conversation.objects.filter(chatbot=chatbot, deleted_at=None).latest("pk"),
        variable=Variable.objects.get(chatbot=chatbot, name="payload"),
    )
    failed = {"status": "failed", "failed_at": now, "error_code": "storage_access_denied", "error_detail": "x"}
    broken = deletion_of(chatbot, "42", approved_by="x", approved_at=now, **failed)
    CallbackFactory.create(request=broken, given_up=True)
    ClaimFactory.create()
    Heartbeat.objects.create(id=uuid4(), name="x", version="1", workers=2, started_at=now, seen_at=now, worked_at=now)
    entry = ChangeLogEntry.objects.create(
        chatbot=chatbot, request_id=request.pk, event="request.approved", actor="x", data={"reason": "other"}
    )
    RequestNote.objects.create(chatbot=chatbot, request=request, entry_id=entry.pk, text="x")
    hold, _ = place(chatbot, "a chatter of whom nothing is stored", matter="released")
    LegalHold.objects.update(reviewed_at=now, reviewed_by="x")
    release(hold)


def plant(chatbot: Chatbot, *, turn: int, person: User) -> None:
    """Put a payload into each column of each row. In turn -1 they are addresses that would run."""
    for column in COLUMNS:
        if column.model not in {ChangeLogEntry, LogEntry}:
            _update(column, turn)
    for column in COLUMNS:
        if column.model is ChangeLogEntry:
            _add_entries(chatbot, column, turn)
    LogEntry.objects.create(
        user_id=person.pk,
        content_type=ContentType.objects.get_for_model(User),
        object_id=str(person.pk),
        object_repr=_column("admin.LogEntry.object_repr").text(turn=turn, row=0),
        action_flag=2,
        change_message=_column("admin.LogEntry.change_message").text(turn=turn, row=0),
    )


def _column(name: str) -> Column:
    return next(column for column in COLUMNS if str(column) == name)


def _update(column: Column, turn: int) -> None:
    rows = column.model._default_manager.filter(column.only).order_by("pk")
    for number, pk in enumerate(rows.values_list("pk", flat=True)):
        text = column.text(turn=turn, row=number)
        column.model._default_manager.filter(pk=pk).update(**{column.name: text})


def _add_entries(chatbot: Chatbot, column: Column, turn: int) -> None:
    """The log takes no change: what is wanted of it is added."""
    text = column.text(turn=turn, row=0)
    values: dict[str, Any] = {"actor": "command", "data": {"variable": text, text: text}}
    if column.name == "actor":
        values = {"actor": text}
    ChangeLogEntry.objects.create(chatbot=chatbot, event="variable.designated_uci", **values)


# Where the texts of the API's bodies end: by column, none where it is empty, the names of the fields, and before one
# its schema's where schemas differ.
_FIELDS = {
    "chatbots.Variable.name": "unique_chatter_identifier_key",
    "conversations.Identity.value": "unique_chatter_identifier_value",
    "conversations.Conversation.external_id": "conversation_ids[] Document.id IdentityItem.id LookUpBody.ids[]",
    "compliance.ComplianceRequest.reference": "reference",
    "compliance.ComplianceRequest.callback_url": "callback_url",
    "": "requested_at identity_token review_at began_from began_before",
    "compliance.LegalHold.matter": "matter",
    "conversations.Message.external_id": "message_id Message.id RedactionBody.ids[]",
    "conversations.Conversation.language": "Document.language",
    "conversations.Conversation.user_name": "Document.user_name",
    "conversations.VariableValue.value": "Document.custom_variables[] Document.user_channel_variables[]",
    "conversations.Conversation.csat_comment": "Csat.comment",
    "conversations.Message.text": "Message.text",
    "compliance.RequestNote.text": "note",
}
OF_THE_API = {field: column for column, fields in _FIELDS.items() for field in fields.split()}
