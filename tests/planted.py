"""Payloads in every column of text that anyone can set, whichever way: past all that validates it.

`COLUMNS` and `OURS` name every column of text that there is: a test fails until a new one is added to one of them.
"""

from collections.abc import Iterator, Mapping
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
from compliance.models import Callback, Claim, ComplianceRequest, Export, ExportFile, Heartbeat, RequestNote
from conversations.models import (
    Conversation,
    DailyExtract,
    Identity,
    Message,
    UploadedFile,
    VariableValue,
)
from tests.factories import (
    BucketCredentialFactory,
    CallbackFactory,
    ClaimFactory,
    VariableFactory,
    VariableValueFactory,
    deletion_of,
)
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

COLUMNS = (
    Column(User, "username"),
    Column(User, "first_name"),
    Column(User, "last_name"),
    Column(User, "email"),
    Column(LogEntry, "object_repr", shown=False),
    Column(LogEntry, "change_message"),
    Column(Chatbot, "name"),
    Column(Chatbot, "callback_url", form="https://{}/hook", without=_NOT_IN_HOSTS),
    Column(Variable, "name", only=Q(category="custom")),
    Column(ApiKey, "label"),
    Column(ApiKey, "public_key", shown=False, only=~Q(public_key="")),
    Column(BucketCredential, "label"),
    Column(BucketCredential, "access_key_id"),
    Column(BucketCredential, "created_by"),
    Column(BucketCredential, "failure"),
    Column(Bucket, "bucket"),
    Column(Bucket, "region"),
    Column(Bucket, "prefix", form="{}/"),
    Column(Bucket, "endpoint"),
    Column(Bucket, "access_key_id", only=~Q(access_key_id="")),
    Column(Bucket, "role_arn", only=~Q(role_arn="")),
    Column(Bucket, "external_id", only=~Q(role_arn="")),
    Column(Bucket, "kms_key_id"),
    Column(Bucket, "last_error"),
    Column(BucketCheck, "error"),
    Column(ChangeLogEntry, "actor"),
    Column(ChangeLogEntry, "data"),
    Column(Resolver, "url", shown=False, form="https://{}/who", without=_NOT_IN_HOSTS),
    Column(Resolver, "pointer", shown=False, form="/{}", without="[~]"),
    Column(Conversation, "external_id", only=Q(deleted_at=None)),
    Column(Conversation, "language", only=Q(deleted_at=None)),
    Column(Conversation, "user_name", only=Q(deleted_at=None)),
    Column(Conversation, "csat_comment", only=Q(deleted_at=None)),
    Column(Identity, "value", only=~Q(value=None)),
    Column(Message, "external_id", shown=False),
    Column(Message, "text"),
    Column(UploadedFile, "name"),
    Column(UploadedFile, "content_type"),
    Column(VariableValue, "value"),
    Column(DailyExtract, "bucket"),
    Column(DailyExtract, "key", shown=False, only=~Q(key=None)),
    Column(DailyExtract, "error_detail", only=~Q(error_code="")),
    Column(ComplianceRequest, "uci_value", shown=False, only=~Q(uci_value=None)),
    Column(
        ComplianceRequest,
        "callback_url",
        shown=False,
        form="https://hooks.example.com/{}",
        without=_NOT_IN_PATHS,
    ),
    Column(ComplianceRequest, "filed_by"),
    Column(ComplianceRequest, "approved_by", only=~Q(approved_by="")),
    Column(ComplianceRequest, "error_detail", only=~Q(error_code="")),
    Column(Export, "bucket"),
    Column(Export, "endpoint"),
    Column(Export, "key", shown=False, only=~Q(key=None)),
    Column(ExportFile, "key", shown=False),
    Column(Callback, "url", form="https://{}/hook", without=_NOT_IN_HOSTS, only=~Q(url="")),
    Column(Claim, "owner"),
    Column(Heartbeat, "name"),
    Column(Heartbeat, "version"),
    Column(RequestNote, "text"),
)

# Columns that no person and no client sets, or not as they like, and why.
_CODE, _DIGEST, _SECRET, _PLACE = "a code of ours", "a digest", "encrypted, never shown", "a name that we make"
OURS: Mapping[str, str] = {
    "accounts.Authenticator.name": _PLACE,
    "accounts.Authenticator.key": "always empty, by a constraint",
    "accounts.Authenticator.secret_encrypted": _SECRET,
    "admin.LogEntry.object_id": "a number",
    "auth.User.password": "a hash",
    "chatbots.ApiKey.prefix": _PLACE,
    "chatbots.ApiKey.secret_encrypted": _SECRET,
    "chatbots.Bucket.secret_encrypted": _SECRET,
    "chatbots.BucketCheck.owner": _PLACE,
    "chatbots.BucketCheck.steps": "our own words",
    "chatbots.CallbackSecret.secret_encrypted": _SECRET,
    "chatbots.ChangeLogEntry.event": _CODE,
    "chatbots.Chatbot.slug": "part of addresses: letters, digits, - and _ (a slug)",
    "chatbots.Chatbot.timezone": "one of the zones that there are",
    "chatbots.Resolver.last_error": _CODE,
    "compliance.Callback.error_code": _CODE,
    "compliance.Canary.token_encrypted": _SECRET,
    "compliance.CanaryTurn.findings": "our own words",
    "compliance.CanaryTurn.logs": "files that the operator names in the settings",
    "compliance.CanaryTurn.trouble_at": "our own words",
    "compliance.ComplianceRequest.error_code": _CODE,
    "compliance.ComplianceRequest.reference": "A-Z a-z 0-9 . _ : - by a constraint",
    "compliance.Export.hosting": _CODE,
    "compliance.Export.sha256": _DIGEST,
    "compliance.Export.upload_id": "the storage's own name",
    "compliance.ExportFile.sha256": _DIGEST,
    "compliance.Heartbeat.pid_scope": _PLACE,
    "compliance.JournalEntry.key_prefix": _PLACE,
    "compliance.LedgerLine.key": _PLACE,
    "compliance.LedgerLine.line": "read by no page",
    "compliance.LedgerObject.key": _PLACE,
    "compliance.LedgerObject.key_prefixes": _PLACE,
    "compliance.Mailbox.last_error": _CODE,
    "compliance.Replay.path": _PLACE,
    "compliance.Service.server": "PostgreSQL's own number",
    "conversations.DailyExtract.error_code": _CODE,
    "conversations.DailyExtract.hosting": _CODE,
    "conversations.DailyExtract.owner": _PLACE,
    "conversations.DailyExtract.sha256": _DIGEST,
    "conversations.DailyExtract.upload_id": "the storage's own name",
    "conversations.UploadedFile.object_key": _PLACE,
    "conversations.UploadedFile.sha256": _DIGEST,
    "conversations.UploadedFile.upload_id": "the storage's own name",
}


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


# The texts of the API's bodies, and the column where each ends: none where it is empty. By the name of the field, and
# before it the schema's where schemas differ.
OF_THE_API: Mapping[str, str] = {
    "unique_chatter_identifier_key": "chatbots.Variable.name",
    "unique_chatter_identifier_value": "conversations.Identity.value",
    "conversation_ids[]": "conversations.Conversation.external_id",
    "reference": "compliance.ComplianceRequest.reference",
    "callback_url": "compliance.ComplianceRequest.callback_url",
    "requested_at": "",  # stored as an instant
    "message_id": "conversations.Message.external_id",
    "identity_token": "",
    "Document.id": "conversations.Conversation.external_id",
    "Document.language": "conversations.Conversation.language",
    "Document.user_name": "conversations.Conversation.user_name",
    "Document.custom_variables[]": "conversations.VariableValue.value",
    "Document.user_channel_variables[]": "conversations.VariableValue.value",
    "Csat.comment": "conversations.Conversation.csat_comment",
    "Message.id": "conversations.Message.external_id",
    "Message.text": "conversations.Message.text",
    "IdentityItem.id": "conversations.Conversation.external_id",
    "LookUpBody.ids[]": "conversations.Conversation.external_id",
    "RedactionBody.ids[]": "conversations.Message.external_id",
}
