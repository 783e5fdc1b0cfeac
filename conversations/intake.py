"""Documents to rows: at most 1,000 documents in one transaction, in a number of statements that does not
depend on how many they are.

Why ingest and erasure cannot miss each other. Intake holds the chatbot's advisory lock, shared, from before
its first read until its commit; an erasure's mark holds it alone. So every intake lies wholly before a mark
or wholly after it. Before: its rows are committed when the mark looks for the chatter's conversations, so
they are found, marked and erased. After: it begins to read when the mark is committed, so it sees the
marked conversations, which it refuses, and the ErasedChatter row written with the mark, by which it refuses
what began before the cut (a stored conversation by its stored start, a new one by its document's), or was stored
by then. What is left is new: a conversation of the chatter that began after the cut, or one that does not name
the chatter. Should a conversation that is stored and not marked turn out to be the erased chatter's (a document
names the chatter only now), intake marks it with that erasure's request and notes the chatter's digest, and the
sweep erases what is marked. Between intakes, and against uploads and the chunks of an erasure, each
conversation's row is locked, in id order; the unique index on (chatbot, digest of the id) makes two intakes of
one new conversation meet: the later one rolls back and begins again, and then finds the row.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from django.db import Error as DatabaseError
from django.db import transaction

from chatbots.models import Chatbot
from common.crypto import digest
from common.logs import describe_database_error
from conversations import rows
from conversations.documents import Document, DocumentError, DocumentInvalid, error_at
from conversations.extracts import lateness
from conversations.locks import share_with_intake
from conversations.merging import Row, Working
from conversations.variables import Chatter, Declared

MAX_DOCUMENTS = 1000

# Each new attempt means that another intake has committed one of the same conversations.
_ATTEMPTS = 20


class IntakeFailed(Exception):
    """The database refused; nothing of the call is stored. Says SQLSTATE and constraint, never content."""


class Result(StrEnum):
    CREATED = "created"
    UPDATED = "updated"
    UNCHANGED = "unchanged"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one document. `id` is the platform's (None if unreadable), `number` ours (None if there
    is no such conversation); `messages` counts those that this document added."""

    id: str | None
    number: int | None
    outcome: Result
    errors: tuple[DocumentError, ...] = ()
    messages: int = 0


@dataclass(frozen=True, slots=True)
class _Incoming:
    document: Document
    digest: bytes
    values: dict[int, str]
    chatters: dict[int, bytes]  # by variable: the digests of the values that name somebody


@dataclass(frozen=True, slots=True)
class _Decision:
    """As Outcome, before a new conversation has its number."""

    document_id: str | None
    conversation: Working | None
    outcome: Result
    errors: tuple[DocumentError, ...] = ()
    messages: int = 0

    def told(self) -> Outcome:
        number = self.conversation.number if self.conversation else None
        return Outcome(self.document_id, number, self.outcome, self.errors, self.messages)


def store(*, chatbot: Chatbot, documents: Sequence[Document | DocumentInvalid]) -> list[Outcome]:
    """Store documents, all in one transaction, and say in order what became of each.

    Several documents of one conversation are taken in order. A document is stored whole or refused whole; a
    refused one does not hinder the others. Outcome `unchanged` writes nothing, but that a variable's value
    sent again lives on for VARIABLE_DAYS (to the hour).

    Raises ValueError for more than MAX_DOCUMENTS, IntakeFailed when the database refuses.
    """
    if len(documents) > MAX_DOCUMENTS:
        raise ValueError(f"At most {MAX_DOCUMENTS} documents can be stored at once.")
    for _ in range(_ATTEMPTS):
        failure = ""
        try:
            with transaction.atomic():
                return _store(chatbot, documents)
        except rows.Overtaken:
            continue
        except DatabaseError as error:
            failure = describe_database_error(error)
        # Raised outside the except block: its context would quote rows.
        raise IntakeFailed(failure)
    raise IntakeFailed("other intakes of the same conversations kept coming first")


def _store(chatbot: Chatbot, documents: Sequence[Document | DocumentInvalid]) -> list[Outcome]:
    share_with_intake(chatbot.pk)
    declared = Declared.read(chatbot)
    arrived = [_resolve(document, chatbot=chatbot, declared=declared) for document in documents]
    incoming = [one for one in arrived if isinstance(one, _Incoming)]

    erasures = rows.erasures_of(
        chatbot_id=chatbot.pk, chatters=(chatter for one in incoming for chatter in one.chatters.items())
    )
    conversations = rows.lock_conversations(chatbot_id=chatbot.pk, digests=(one.digest for one in incoming))
    _read_known(incoming, conversations)

    decisions = [
        _decide(one, conversations=conversations, erasures=erasures, declared=declared)
        if isinstance(one, _Incoming)
        else _Decision(one.document_id, None, Result.REFUSED, one.errors)
        for one in arrived
    ]
    _write(conversations.values(), chatbot_id=chatbot.pk)
    return [decision.told() for decision in decisions]


def _resolve(
    document: Document | DocumentInvalid, *, chatbot: Chatbot, declared: Declared
) -> _Incoming | DocumentInvalid:
    if isinstance(document, DocumentInvalid):
        return document
    values, errors = declared.resolve(document)
    if errors:
        return DocumentInvalid(tuple(errors), document_id=document["id"])
    return _Incoming(
        document=document,
        digest=digest("conversation", chatbot.public_id, document["id"]),
        values=values,
        chatters=declared.chatters(values),
    )


def _read_known(incoming: Iterable[_Incoming], conversations: dict[bytes, Working]) -> None:
    """Read what is stored already of what the documents carry, for the conversations that are open."""
    open_ones: dict[int, Working] = {}
    carried: list[rows.Carried] = []
    for one in incoming:
        conversation = conversations.get(one.digest)
        if conversation is None or conversation.number is None or conversation.row.deletion_request_id:
            continue
        open_ones[conversation.number] = conversation
        message_ids = [message["id"] for message in one.document.get("messages") or []]
        chatter = one.chatters.get(conversation.row.uci_variable_id or 0)
        carried.append(rows.Carried(conversation.number, message_ids, chatter))
    rows.read_known(open_ones, carried)


def _decide(
    one: _Incoming,
    *,
    conversations: dict[bytes, Working],
    erasures: rows.Erasures,
    declared: Declared,
) -> _Decision:
    """Refuse the document, or merge it onto its conversation (a new one is added to `conversations`)."""
    document_id = one.document["id"]
    conversation = conversations.get(one.digest)
    if conversation is not None and conversation.row.deletion_request_id is not None:
        error = error_at((), "conversation_deleted", "This conversation was deleted; nothing more is stored in it.")
        return _Decision(document_id, conversation, Result.REFUSED, (error,))
    if conversation is None:
        missing = _missing_of_a_new_one(one.document)
        if missing:
            return _Decision(document_id, None, Result.REFUSED, missing)

    erased = _erasures_met(one, conversation, erasures)
    if erased:
        if conversation is not None:
            latest = max(erased.values())
            conversation.close(latest.request_id, erased)
        error = error_at((), "chatter_erased", "It is of a chatter who was erased after this conversation began.")
        return _Decision(document_id, conversation, Result.REFUSED, (error,))

    outcome = Result.CREATED
    if conversation is None:
        conversation = conversations[one.digest] = _begin(one, uci_id=declared.uci_id)
        _, messages = conversation.merge(one.document, one.values, declared.uci_ids, one.chatters)
    else:
        changed, messages = conversation.merge(one.document, one.values, declared.uci_ids, one.chatters)
        outcome = Result.UPDATED if changed else Result.UNCHANGED
    return _Decision(document_id, conversation, outcome, messages=messages)


def _missing_of_a_new_one(document: Document) -> tuple[DocumentError, ...]:
    missing = [name for name in ("channel", "started_at") if document.get(name) is None]
    detail = "This field is required of a new conversation."
    return tuple(error_at((name,), "missing", detail) for name in missing)


def _erasures_met(
    one: _Incoming, conversation: Working | None, erasures: rows.Erasures
) -> dict[Chatter, rows.Erasure]:
    """Return the chatters of a document who were erased after its conversation began, each with the latest erasure.

    A conversation that is stored is judged by what is stored of it. What a document says of its start counts for a
    new one alone: else whoever sends documents could move a conversation across an erasure.
    """
    if conversation is None:
        number, started_at = None, one.document.get("started_at")
    else:
        number, started_at = conversation.number, conversation.row.started_at
    met: dict[Chatter, rows.Erasure] = {}
    for chatter in one.chatters.items():
        later = [
            each
            for each in erasures.get(chatter, ())
            if (started_at is not None and started_at < each.cutoff_at)
            or (number is not None and number <= each.cutoff_number)
        ]
        if later:
            met[chatter] = max(later)
    return met


def _begin(one: _Incoming, *, uci_id: int | None) -> Working:
    document = one.document
    channel, started_at = document.get("channel"), document.get("started_at")
    if channel is None or started_at is None:
        raise ValueError("A new conversation needs channel and started_at.")
    row = Row(
        external_id=document["id"],
        external_id_digest=one.digest,
        uci_variable_id=uci_id,
        channel=channel,
        started_at=started_at,
    )
    return Working(row=row)


def _write(conversations: Iterable[Working], *, chatbot_id: int) -> None:
    everything = list(conversations)
    rows.update_conversations([one for one in everything if one.number is not None and one.row_changed])
    rows.insert_conversations(chatbot_id=chatbot_id, conversations=[one for one in everything if one.number is None])
    rows.write_identities(chatbot_id=chatbot_id, conversations=everything)
    rows.write_values(chatbot_id=chatbot_id, conversations=everything)
    rows.write_messages(chatbot_id=chatbot_id, conversations=everything)
    lateness.flag_days(
        chatbot_id=chatbot_id,
        instants=(message["sent_at"] for conversation in everything for message in conversation.new_messages),
    )
