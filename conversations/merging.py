"""One document onto one conversation, in memory: what changes and what is new. The database is in `rows.py`.

A present field overwrites, an absent one stays; a message id that is known is left alone. `started_at` is that of the
first document for good: by it an erasure decides what it takes. A push or file message in a document sets the
conversation's flag, whatever the document says of `push`.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any, NamedTuple, cast
from uuid import UUID

from conversations.documents import Document, Message
from conversations.variables import Chatter


@dataclass(slots=True)
class Row:
    """The columns of a conversation that intake reads and writes, named as in the model.

    Of an erased conversation most are None; nothing but its mark is looked at then.
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
    deletion_request_id: UUID | None = None


class NewIdentity(NamedTuple):
    """Who a conversation turns out to be of. Without a value: of a chatter who was erased."""

    variable_id: int
    digest: bytes
    value: str | None


class StoredValue(NamedTuple):
    value: str
    renewal_due: bool


@dataclass(slots=True, kw_only=True)
class Working:
    """A conversation under work: what is known of it, and what the documents of this call add."""

    row: Row
    number: int | None = None  # none yet: a new conversation
    row_changed: bool = False

    known_messages: set[str] = field(default_factory=set)
    known_identities: set[bytes] = field(default_factory=set)  # digests under the conversation's own UCI
    known_values: dict[int, StoredValue] = field(default_factory=dict)

    new_messages: list[Message] = field(default_factory=list)
    new_identities: list[NewIdentity] = field(default_factory=list)
    new_values: dict[int, str] = field(default_factory=dict)

    def close(self, request_id: UUID, chatters: Iterable[Chatter]) -> None:
        """Close it, for the deletion that has to erase it, and keep by digest which erased chatters it names."""
        self.row.deletion_request_id = request_id
        self.row_changed = True
        self.new_identities += [NewIdentity(variable_id, digest, None) for variable_id, digest in chatters]

    def merge(
        self, document: Document, values: dict[int, str], uci_ids: frozenset[int], chatters: Mapping[int, bytes]
    ) -> tuple[bool, int]:
        """Take over a document. Return whether anything changed, and how many messages are new.

        `values` are its variables by id, `uci_ids` the present and former UCIs, `chatters` the digests of those
        values that name somebody. That a value sent again lives longer is no change.
        """
        columns_changed = self._overwrite(_columns(document))
        added = self._add_messages(document.get("messages") or [])
        self.row_changed = self.row_changed or columns_changed or added > 0
        values_changed = self._take_values(values, uci_ids, chatters)
        return columns_changed or added > 0 or values_changed, added

    def _overwrite(self, columns: dict[str, Any]) -> bool:
        changed = False
        for column, value in columns.items():
            if getattr(self.row, column) != value:
                setattr(self.row, column, value)
                changed = True
        return changed

    def _add_messages(self, messages: list[Message]) -> int:
        known = self.known_messages
        added = [message for message in messages if message["id"] not in known] if known else messages
        if not added:
            return 0
        known.update([message["id"] for message in added])
        self.new_messages += added
        latest = max([message["sent_at"] for message in added])
        self.row.last_message_at = max(self.row.last_message_at or latest, latest)
        self.row.message_count += len(added)
        return len(added)

    def _take_values(self, values: dict[int, str], uci_ids: frozenset[int], chatters: Mapping[int, bytes]) -> bool:
        changed = False
        for variable_id, value in values.items():
            if variable_id == self.row.uci_variable_id:
                changed = self._identify(variable_id, value, chatters.get(variable_id)) or changed
            elif variable_id not in uci_ids:
                # A UCI of another time is not stored at all: a deletion by it would not find it here.
                changed = self._set_value(variable_id, value) or changed
        return changed

    def _identify(self, variable_id: int, value: str, digest: bytes | None) -> bool:
        if digest is None or digest in self.known_identities:
            return False
        self.known_identities.add(digest)
        self.new_identities.append(NewIdentity(variable_id, digest, value))
        return True

    def _set_value(self, variable_id: int, value: str) -> bool:
        known = self.known_values.get(variable_id)
        if known is None or known.value != value:
            self.new_values[variable_id] = value
            self.known_values[variable_id] = StoredValue(value, renewal_due=False)
            return True
        if known.renewal_due:
            self.new_values[variable_id] = value
        return False


# The document's field -> the conversation's column.
_FIELDS = {
    "channel": "channel",
    "language": "language",
    "user_name": "user_name",
    "score": "score",
    "agent_handover": "has_agent_handover",
    "push": "has_push",
}


def _columns(document: Document) -> dict[str, Any]:
    """Return what the document says of the conversation's columns: present fields only."""
    sent = cast("Mapping[str, Any]", document)
    columns = {column: sent[name] for name, column in _FIELDS.items() if sent.get(name) is not None}
    for name, value in (document.get("csat") or {}).items():
        if value is not None:
            columns[f"csat_{name}"] = value
    kinds = {message["kind"] for message in document.get("messages") or ()}
    if "push" in kinds:
        columns["has_push"] = True
    if "file" in kinds:
        columns["has_file_upload"] = True
    return columns
