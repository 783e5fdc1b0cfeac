"""A document and its conversation in memory: the document's variables, its changes and its additions.

A present field overwrites, an absent one stays, a known message is not changed, nor is a redacted CSAT comment.
`started_at` is that of the first document for good, since an erasure's cutoff is compared with it. A push or file
message sets the conversation's flag, whatever the document's `push` is. `rows.py` reads and writes the database.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime
from decimal import Decimal
from typing import Any, NamedTuple, cast
from uuid import UUID

from django.conf import settings
from django.db.models import F

from chatbots.identity_tokens import IdentityClaims
from chatbots.models import MAX_UCI_LENGTH, Chatbot, Variable
from common.crypto import digest
from common.problems import FieldError, error_at
from conversations.documents import Document, DocumentInvalid, Message, token_error
from conversations.models import Identity
from conversations.tombstones import Chatter, Tombstones

EstablishedBy = Identity.EstablishedBy


@dataclass(frozen=True, slots=True)
class IncomingDocument:
    """A document with its variables by id, and the digests of those values that identify a chatter.

    `signed` is the chatter of its identity token, which is also in `values` and `chatters`. `redacted` are
    the ids of messages that are stored without their text. `is_comment_redacted`: so is the CSAT comment.
    """

    document: Document
    digest: bytes
    values: dict[int, str]
    chatters: dict[int, bytes]
    signed: "SignedChatter | None" = None
    redacted: frozenset[str] = frozenset()
    is_comment_redacted: bool = False

    def is_signed(self, variable_id: int) -> bool:
        return self.signed is not None and self.signed.variable_id == variable_id

    def is_only_signed(self, chatter: Chatter) -> bool:
        """Return whether the token has this chatter of the document, and its variables do not."""
        return self.signed is not None and not self.signed.is_declared and self.signed.variable_id == chatter[0]

    def redact(self, tombstones: Tombstones, chatbot: UUID) -> "IncomingDocument":
        """Return the document with the messages and the comment that were redacted before their row was lost."""
        ids = [message["id"] for message in self.document.get("messages") or ()]
        redacted = tombstones.redacted(chatbot, self.digest, ids)
        has_comment = tombstones.has_comment(chatbot, self.digest)
        return replace(self, redacted=redacted, is_comment_redacted=has_comment) if redacted or has_comment else self


class SignedChatter(NamedTuple):
    """The chatter of a verified identity token. `is_declared`: the document's variables have the value too."""

    variable_id: int
    has_expired: bool
    is_declared: bool


@dataclass(frozen=True, slots=True)
class DeclaredVariables:
    """The variables of a chatbot at the time of reading."""

    chatbot: Chatbot
    by_name: dict[str, Variable]
    uci_id: int | None
    # Present and former UCIs, under each of which a chatter can have been erased: the scopes of their digests.
    uci_public_ids: dict[int, UUID]
    # The source of their values in a document's variables.
    established_by: dict[int, EstablishedBy]
    # The variables that the resolver gets to look up a chatter; empty without a resolver.
    looked_up_by: frozenset[int]

    @classmethod
    def read(cls, chatbot: Chatbot) -> "DeclaredVariables":
        resolver = F("chatbot__resolver__variable_ids"), F("chatbot__resolver__off_reason")
        variables = list(Variable.objects.filter(chatbot=chatbot).annotate(sent=resolver[0], off_reason=resolver[1]))
        return cls(
            chatbot=chatbot,
            by_name={variable.name: variable for variable in variables},
            uci_id=next((variable.pk for variable in variables if variable.is_uci), None),
            uci_public_ids={one.pk: one.public_id for one in variables if one.is_uci or one.was_uci},
            established_by={one.pk: EstablishedBy(one.category) for one in variables if one.is_uci or one.was_uci},
            looked_up_by=frozenset(variables[0].sent if variables and variables[0].off_reason == "" else ()),
        )

    def resolve(
        self, document: Document | DocumentInvalid, token: IdentityClaims | FieldError | None = None
    ) -> IncomingDocument | DocumentInvalid:
        """Resolve the document's variables, and its identity token.

        Returns DocumentInvalid with an error for each variable refused, and for the token.
        """
        if isinstance(document, DocumentInvalid):
            return document
        values: dict[int, str] = {}
        errors: list[FieldError] = []
        for section, category, name, value in _variables_of(document):
            variable = self.by_name.get(name)
            if variable is None:
                detail = "The chatbot declares no such variable."
                errors.append(error_at((section, name), "undeclared_variable", detail))
            elif variable.category != category:
                detail = f"This is a {variable.category} variable."
                errors.append(error_at((section, name), "wrong_category", detail))
            elif variable.pk in self.uci_public_ids and len(value) > MAX_UCI_LENGTH:
                detail = f"A UCI value must have at most {MAX_UCI_LENGTH} characters."
                errors.append(error_at((section, name), "too_long", detail))
            else:
                values[variable.pk] = value
        signed = self._signed(token, values, errors)
        if errors:
            return DocumentInvalid(tuple(errors), document_id=document["id"])
        chatters = {
            variable_id: digest("chatter", self.uci_public_ids[variable_id], value)
            for variable_id, value in values.items()
            if variable_id in self.uci_public_ids and value not in settings.UCI_PLACEHOLDERS
        }
        conversation_digest = digest("conversation", self.chatbot.public_id, document["id"])
        return IncomingDocument(document, conversation_digest, values, chatters, signed)

    def _signed(
        self, token: IdentityClaims | FieldError | None, values: dict[int, str], errors: list[FieldError]
    ) -> "SignedChatter | None":
        """Return the chatter of a token, and add the value to those of the document, or an error."""
        if token is None or isinstance(token, FieldError):
            errors += [token] if token else []
            return None
        variable = self.by_name.get(token.uci_key)
        if variable is None or variable.pk not in self.uci_public_ids:
            errors.append(token_error("The token's uci_key names no Unique Chatter Identifier of this chatbot."))
            return None
        said = values.get(variable.pk)
        is_declared = said is not None and said not in settings.UCI_PLACEHOLDERS
        if is_declared and said != token.value:
            detail = "The token names another chatter than the document's variables do."
            errors.append(error_at(("identity_token",), "identity_mismatch", detail))
            return None
        values[variable.pk] = token.value
        return SignedChatter(variable.pk, has_expired=token.has_expired, is_declared=is_declared)


def _variables_of(document: Document) -> Iterator[tuple[str, str, str, str]]:
    """Yield (section, its category, name, value); `null` counts as absent."""
    sections = (
        ("user_channel_variables", Variable.Category.USER_CHANNEL, document.get("user_channel_variables")),
        ("custom_variables", Variable.Category.CUSTOM, document.get("custom_variables")),
    )
    for section, category, variables in sections:
        for name, value in (variables or {}).items():
            if value is not None:
                yield section, category, name, value


@dataclass(slots=True)
class ConversationRow:
    """The columns of a conversation that intake reads and writes, named as in the model.

    In an erased conversation most are None; intake only reads its mark.
    """

    external_id: str | None
    external_id_digest: bytes
    uci_variable_id: int | None
    channel: str
    started_at: datetime
    language: str | None = None
    user_name: str | None = None
    last_message_at: datetime | None = None
    message_count: int = 0
    has_file_upload: bool = False
    has_agent_handover: bool = False
    has_push: bool = False
    score: Decimal | None = None
    csat_score: int | None = None
    csat_vote: str | None = None
    csat_comment: str | None = None
    csat_comment_redacted: bool = False
    deletion_request_id: UUID | None = None


class NewIdentity(NamedTuple):
    """A chatter of the conversation. An erased chatter has no value."""

    variable_id: int
    digest: bytes
    value: str | None
    established_by: EstablishedBy = EstablishedBy.USER_CHANNEL


class StoredValue(NamedTuple):
    value: str
    renewal_due: bool


@dataclass(slots=True, kw_only=True)
class MergedConversation:
    """A conversation with its stored data, and the additions of this call's documents."""

    row: ConversationRow
    number: int | None = None  # None: not stored yet
    row_changed: bool = False
    name_changed: bool = False

    known_messages: set[str] = field(default_factory=set)
    # By their digests under the conversation's own UCI.
    known_identities: dict[bytes, EstablishedBy] = field(default_factory=dict)
    known_values: dict[int, StoredValue] = field(default_factory=dict)

    new_messages: list[Message] = field(default_factory=list)
    new_identities: list[NewIdentity] = field(default_factory=list)
    # Known ones whose value has now come from a stronger source, by their digests.
    stronger_identities: dict[bytes, NewIdentity] = field(default_factory=dict)
    new_values: dict[int, str] = field(default_factory=dict)
    # Variables with a new or changed value. Other values in `new_values` are only kept longer. Values that came with
    # the first identity of a new conversation are left out. `skipped`: those whose new value was replaced in this
    # call.
    changed_variables: set[int] = field(default_factory=set)
    skipped_variables: set[int] = field(default_factory=set)

    @classmethod
    def begin(cls, incoming: IncomingDocument, *, uci_id: int | None) -> "MergedConversation":
        """Return a new conversation, still to be merged with its first document."""
        document = incoming.document
        channel, started_at = document.get("channel"), document.get("started_at")
        if channel is None or started_at is None:
            raise ValueError("A new conversation needs channel and started_at.")
        return cls(row=ConversationRow(document["id"], incoming.digest, uci_id, channel, started_at))

    @property
    def is_closed(self) -> bool:
        """Return whether it is marked or erased: nothing more is stored in it."""
        return self.row.deletion_request_id is not None

    @property
    def is_other_by_now(self) -> bool:
        """Return whether this call's documents have created it, or have added a chatter, and it is open."""
        return not self.is_closed and (self.number is None or bool(self.new_identities))

    def close(self, request_id: UUID, chatters: Iterable[Chatter]) -> None:
        """Mark the conversation for the deletion that must erase it, and keep the digests of its erased chatters."""
        self.row.deletion_request_id = request_id
        self.row_changed = True
        self.new_identities += [NewIdentity(variable_id, digest, None) for variable_id, digest in chatters]

    def merge(self, incoming: IncomingDocument, declared: DeclaredVariables) -> tuple[bool, int]:
        """Merge a document. Return whether anything changed, and the number of new messages.

        A value sent again is kept longer, which is no change.
        """
        columns = _columns(incoming.document)
        if incoming.is_comment_redacted or self.row.csat_comment_redacted:
            columns |= {"csat_comment": None, "csat_comment_redacted": True}
        columns_changed = self._overwrite(columns)
        added = self._add_messages(incoming.document.get("messages") or [], incoming.redacted)
        self.row_changed = self.row_changed or columns_changed or added > 0
        values_changed, is_named = False, self.number is not None or bool(self.known_identities)
        for variable_id, value in incoming.values.items():
            if variable_id == self.row.uci_variable_id:
                digest = incoming.chatters.get(variable_id)
                if digest is not None:  # no placeholder
                    is_signed = incoming.is_signed(variable_id)
                    established_by = EstablishedBy.SIGNED if is_signed else declared.established_by[variable_id]
                    added_one = self.add_identity(NewIdentity(variable_id, digest, value, established_by))
                    values_changed = added_one or values_changed
            elif variable_id not in declared.uci_public_ids:
                # The value of another UCI is not stored: a deletion by that UCI would not find it here.
                values_changed = self._set_value(variable_id, value) or values_changed
        if self.known_identities and not is_named:
            self.changed_variables &= self.skipped_variables
        return columns_changed or added > 0 or values_changed, added

    def _overwrite(self, columns: dict[str, Any]) -> bool:
        changed = False
        for column, value in columns.items():
            if getattr(self.row, column) != value:
                setattr(self.row, column, value)
                changed = True
                self.name_changed = self.name_changed or column == "user_name"
        return changed

    def _add_messages(self, messages: list[Message], redacted: frozenset[str]) -> int:
        known = self.known_messages
        added = [message for message in messages if message["id"] not in known] if known else messages
        if not added:
            return 0
        if redacted:
            added = [_redacted(one) if one["id"] in redacted else one for one in added]
        known.update([message["id"] for message in added])
        self.new_messages += added
        latest = max([message["sent_at"] for message in added])
        self.row.last_message_at = max(self.row.last_message_at or latest, latest)
        self.row.message_count += len(added)
        return len(added)

    def add_identity(self, new: NewIdentity) -> bool:
        """Add a chatter, or record a stronger source of a known one. Return whether anything changed."""
        known = self.known_identities.get(new.digest)
        if known is not None and not new.established_by.is_stronger_than(known):
            return False
        self.known_identities[new.digest] = new.established_by
        if known is None:
            self.new_identities.append(new)
        else:
            # This includes a chatter that is new in this call: sources are updated after new ones are written.
            self.stronger_identities[new.digest] = new
        return True

    def _set_value(self, variable_id: int, value: str) -> bool:
        known = self.known_values.get(variable_id)
        if known is None or known.value != value:
            if known and variable_id in self.changed_variables and known.value not in settings.UCI_PLACEHOLDERS:
                self.skipped_variables.add(variable_id)
            self.new_values[variable_id] = value
            self.known_values[variable_id] = StoredValue(value, renewal_due=False)
            self.changed_variables.add(variable_id)
            return True
        if known.renewal_due:
            self.new_values[variable_id] = value
        return False


def _redacted(message: Message) -> Message:
    # No document can have this kind.
    return cast("Message", {**message, "kind": "redacted", "text": ""})


# The document's field -> the conversation's column.
_COLUMN_OF_FIELD = {
    "channel": "channel",
    "language": "language",
    "user_name": "user_name",
    "score": "score",
    "agent_handover": "has_agent_handover",
    "push": "has_push",
}


def _columns(document: Document) -> dict[str, Any]:
    sent: dict[str, Any] = {**document}
    columns = {column: sent[name] for name, column in _COLUMN_OF_FIELD.items() if sent.get(name) is not None}
    for name, value in (document.get("csat") or {}).items():
        if value is not None:
            columns[f"csat_{name}"] = value
    kinds = {message["kind"] for message in document.get("messages") or ()}
    if "push" in kinds:
        columns["has_push"] = True
    if "file" in kinds:
        columns["has_file_upload"] = True
    return columns
