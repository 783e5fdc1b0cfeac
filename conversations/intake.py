"""Store documents: at most 1,000 in one transaction, in a number of statements that does not depend on how many.

A document goes through `documents` (parse), here (verify its identity token, before the transaction), `merge`
(variables, and what changes), here again (refuse or accept) and `rows` (SQL).

Why intake and erasure cannot miss each other. Intake shares the chatbot's advisory lock from before its first read
until its commit; an erasure's mark holds it alone (`locks`). So every intake lies wholly before or after a mark:

- Before: its rows are committed when the mark looks for the chatter's conversations, so they are marked and erased.
- After: it reads the marked conversations, which it refuses, and the chatter's tombstone written with the mark, by
  which it refuses conversations that began before the cutoff (a stored conversation by its stored start, a new one by
  its document's) or were stored by then. The remaining ones are new: they began after the cutoff, or do not have the
  chatter's value.

If a document has an erased chatter's value, and its conversation is stored and not marked, intake marks it with that
erasure's request and keeps the chatter's digest. The sweep erases marked conversations. If only an identity token has
the value, the rules of `identification` apply.

Between intakes, uploads and the chunks of an erasure, each conversation's row is locked, in id order. Two intakes of
one new conversation meet at the unique index on (chatbot, digest of the id): the later one rolls back, starts again,
and then finds the row.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from django.db import Error as DatabaseError
from django.db import transaction

from chatbots.identity_tokens import (
    IdentityClaims,
    IdentityKeys,
    TokenRefused,
    UnverifiedToken,
    parse,
    read_identity_keys,
    record_use,
    verify,
)
from chatbots.models import Chatbot
from common.crypto import SecretUnreadable
from common.database_errors import describe_database_error
from common.problems import FieldError, error_at
from conversations import lookups, rows
from conversations.documents import Document, DocumentInvalid, token_error, too_far_ahead
from conversations.extracts.days import flag_days
from conversations.locks import share_with_intake
from conversations.merge import DeclaredVariables, EstablishedBy, IncomingDocument, MergedConversation
from conversations.models import Assurance
from conversations.tombstones import Chatter, Erasure, Tombstones

MAX_DOCUMENTS = 1000

# Each further attempt means that another intake has committed one of the same conversations.
_ATTEMPTS = 20


# The claims of a document's identity token, or its refusal; None without a token.
_VerifiedToken = IdentityClaims | FieldError | None


class IntakeFailed(Exception):
    """The database refused, and nothing of the call is stored. It contains SQLSTATE and constraint, never content."""


class DocumentOutcome(StrEnum):
    CREATED = "created"
    UPDATED = "updated"
    UNCHANGED = "unchanged"
    REFUSED = "refused"


@dataclass(slots=True)
class StoreResult:
    """The result of one document: the platform's id (None if unreadable), and the number of added messages.

    `number` is our number of the conversation, None if there is no such conversation or the document is not valid.
    """

    id: str | None
    outcome: DocumentOutcome
    errors: tuple[FieldError, ...] = ()
    messages: int = 0
    number: int | None = None


def store(
    *, chatbot: Chatbot, documents: Sequence[Document | DocumentInvalid], look_up: bool = True
) -> list[StoreResult]:
    """Store documents in one transaction, and return their results in order.

    Several documents of one conversation are stored in order. A document is stored whole or refused whole, and a
    refused one does not affect the others. `unchanged` writes nothing, except that a variable's value that is sent
    again is kept for another VARIABLE_DAYS (to the hour). With `look_up`, identities that are missing are looked up
    at the chatbot's resolver, if it has one.

    Raises ValueError for more than MAX_DOCUMENTS, IntakeFailed when the database refuses.
    """
    if len(documents) > MAX_DOCUMENTS:
        raise ValueError(f"At most {MAX_DOCUMENTS} documents can be stored at once.")
    failure, tokens = "", list[_VerifiedToken]()
    try:
        tokens = _verify_tokens(chatbot, documents)
    except SecretUnreadable:
        failure = "an identity key cannot be used until ENCRYPTION_KEYS can decrypt it again"
    except DatabaseError as error:
        failure = describe_database_error(error)
    # Raised outside the except blocks, here and below: their context would quote rows.
    if failure:
        raise IntakeFailed(failure)
    for _ in range(_ATTEMPTS):
        try:
            with transaction.atomic():
                return _store_all(chatbot, documents, tokens, look_up=look_up)
        except rows.ConcurrentIntake:
            continue
        except DatabaseError as error:
            failure = describe_database_error(error)
        raise IntakeFailed(failure)
    raise IntakeFailed("other intakes of the same conversations kept coming first")


def _verify_tokens(chatbot: Chatbot, documents: Sequence[Document | DocumentInvalid]) -> list[_VerifiedToken]:
    """Return the claims of each document's token, or its refusal, in order.

    The caller decides about expired tokens under its locks, since that depends on stored data. Makes no statement if
    no document has a token, or else one, and another one if the use of a key must be recorded.

    Raises SecretUnreadable if ENCRYPTION_KEYS cannot decrypt the secret of a key.
    """
    results: list[_VerifiedToken] = [None] * len(documents)
    tokens: list[tuple[int, Document, UnverifiedToken]] = []
    for place, document in enumerate(documents):
        if isinstance(document, DocumentInvalid) or (text := document.get("identity_token")) is None:
            continue
        try:
            tokens.append((place, document, parse(text)))
        except TokenRefused as refused:
            results[place] = token_error(refused.detail)
    if not tokens:
        return results
    keys = read_identity_keys(chatbot, {token.kid for _, _, token in tokens})
    used: set[str] = set()
    for place, document, token in tokens:
        try:
            results[place] = _verify_token(token, document, chatbot=chatbot, keys=keys)
            used.add(token.kid)
        except TokenRefused as refused:
            results[place] = token_error(refused.detail)
    if due := used & keys.unnoted:
        record_use(chatbot, due)
    return results


def _verify_token(
    token: UnverifiedToken, document: Document, *, chatbot: Chatbot, keys: IdentityKeys
) -> IdentityClaims:
    claims = verify(token, keys.by_kid.get(token.kid), audience=chatbot.public_id, at=keys.at)
    if claims.conversation_id is None and chatbot.token_names_conversation:
        raise TokenRefused("The token must have a conversation_id: this chatbot demands it.")
    if claims.conversation_id not in {None, document["id"]}:
        raise TokenRefused("The token's conversation_id is not the document's id.")
    return claims


def _store_all(
    chatbot: Chatbot,
    documents: Sequence[Document | DocumentInvalid],
    tokens: Sequence[_VerifiedToken],
    *,
    look_up: bool,
) -> list[StoreResult]:
    """Store all documents: the postponed ones by themselves, once the others are stored."""
    results: dict[int, StoreResult] = {}
    left = list(range(len(documents)))
    while left:
        some = _store(
            chatbot, [documents[place] for place in left], [tokens[place] for place in left], look_up=look_up
        )
        found = dict(zip(left, some, strict=True))
        results |= {place: result for place, result in found.items() if result}
        left = [place for place, result in found.items() if result is None]
    return [results[place] for place in range(len(documents))]


def _store(
    chatbot: Chatbot,
    documents: Sequence[Document | DocumentInvalid],
    tokens: Sequence[_VerifiedToken],
    *,
    look_up: bool,
) -> list[StoreResult | None]:
    """Store documents, and return their results; None for those that are postponed: their conversations are locked.

    A document with an erased chatter is postponed if earlier ones have created its conversation, or have added a
    chatter: a legal hold may cover it since. So are the later documents of that conversation.
    """
    share_with_intake(chatbot.pk)
    declared = DeclaredVariables.read(chatbot)
    resolved = [declared.resolve(document, token) for document, token in zip(documents, tokens, strict=True)]
    incoming = [one for one in resolved if isinstance(one, IncomingDocument)]

    tombstones = Tombstones.read(
        chatbot_id=chatbot.pk,
        chatters=(chatter for one in incoming for chatter in one.chatters.items()),
        conversations=(one.digest for one in incoming),
    )
    conversations = rows.lock_conversations(chatbot_id=chatbot.pk, digests=(one.digest for one in incoming))
    rows.read_known(conversations, incoming, chatbot_id=chatbot.pk)

    of_erased = [
        (conversations[one.digest], one.is_only_signed(chatter))
        for one in incoming
        for chatter in one.chatters.items()
        if one.digest in conversations and tombstones.has_chatter(chatter)
    ]
    kept = rows.find_kept([one for one, is_only_signed in of_erased if is_only_signed], chatbot_id=chatbot.pk)
    under_hold = rows.find_under_hold([one for one, _ in of_erased], chatbot_id=chatbot.pk)
    refusals: list[rows.Refusal] = []
    postponed = set[bytes]()
    results: list[tuple[StoreResult, MergedConversation | None] | None] = []
    for one in resolved:
        if not isinstance(one, IncomingDocument):
            results.append((StoreResult(one.document_id, DocumentOutcome.REFUSED, one.errors), None))
            continue
        met = conversations.get(one.digest)
        if met and met.is_other_by_now and any(map(tombstones.has_chatter, one.chatters.items())):
            postponed.add(one.digest)
        if one.digest in postponed:
            results.append(None)
            continue
        results.append(
            _merge(
                one.redact(tombstones, chatbot.public_id),
                conversations=conversations,
                tombstones=tombstones,
                declared=declared,
                kept=kept,
                under_hold=under_hold,
                refusals=refusals,
            )
        )
    merged = list(conversations.values())
    rows.write(chatbot_id=chatbot.pk, conversations=merged)
    rows.list_refused(refusals, chatbot_id=chatbot.pk)
    if look_up and declared.looked_up_by:
        lookups.queue(chatbot_id=chatbot.pk, conversations=merged, declared=declared)
    flag_days(chatbot_id=chatbot.pk, instants=(message["sent_at"] for one in merged for message in one.new_messages))
    for result, conversation in filter(None, results):
        result.number = conversation.number if conversation else None
    return [each[0] if each else None for each in results]


def _merge(
    incoming: IncomingDocument,
    *,
    conversations: dict[bytes, MergedConversation],
    tombstones: Tombstones,
    declared: DeclaredVariables,
    kept: set[int],
    under_hold: set[int],
    refusals: list[rows.Refusal],
) -> tuple[StoreResult, MergedConversation | None]:
    """Refuse the document, or merge it into its conversation (a new one is added to `conversations`).

    `kept` are conversations that a token with an erased chatter does not close, `under_hold` those that nothing
    closes.
    """
    document_id = incoming.document["id"]
    conversation = conversations.get(incoming.digest)
    is_erased = tombstones.has_conversation(incoming.digest) if conversation is None else conversation.is_closed
    if is_erased:
        error = error_at((), "conversation_deleted", "This conversation was deleted; nothing more is stored in it.")
        return StoreResult(document_id, DocumentOutcome.REFUSED, (error,)), conversation
    if conversation is None:
        missing = _missing_fields(incoming.document)
        if missing:
            return StoreResult(document_id, DocumentOutcome.REFUSED, missing), None

    if refused := _refused_token(incoming, conversation, declared):
        return StoreResult(document_id, DocumentOutcome.REFUSED, (refused,)), conversation

    erased = _erased_chatters(incoming, conversation, tombstones)
    if erased:
        if conversation is not None:
            is_held = conversation.number in under_hold
            refusals += _close_or_list(conversation, incoming, erased, declared, kept=kept, is_held=is_held)
        error = error_at((), "chatter_erased", "It is of a chatter who was erased after this conversation began.")
        return StoreResult(document_id, DocumentOutcome.REFUSED, (error,)), conversation

    known = None if conversation is None else conversation.known_messages
    if ahead := too_far_ahead(incoming.document, known=known):
        return StoreResult(document_id, DocumentOutcome.REFUSED, ahead), conversation

    outcome = DocumentOutcome.CREATED
    if conversation is None:
        conversation = conversations[incoming.digest] = MergedConversation.begin(incoming, uci_id=declared.uci_id)
        _, messages = conversation.merge(incoming, declared)
    else:
        changed, messages = conversation.merge(incoming, declared)
        outcome = DocumentOutcome.UPDATED if changed else DocumentOutcome.UNCHANGED
    return StoreResult(document_id, outcome, messages=messages), conversation


def _missing_fields(document: Document) -> tuple[FieldError, ...]:
    missing = [name for name in ("channel", "started_at") if document.get(name) is None]
    detail = "This field is required of a new conversation."
    return tuple(error_at((name,), "missing", detail) for name in missing)


def _refused_token(
    incoming: IncomingDocument, conversation: MergedConversation | None, declared: DeclaredVariables
) -> FieldError | None:
    """Return the error of a verified token that does not fit its conversation, or None.

    An expired token is accepted if its value was verified before it expired.
    """
    signed = incoming.signed
    if signed is None:
        return None
    if signed.variable_id != (declared.uci_id if conversation is None else conversation.row.uci_variable_id):
        return token_error("The token's uci_key is not the Unique Chatter Identifier of this conversation.")
    identities = {} if conversation is None else conversation.known_identities
    known = identities.get(incoming.chatters[signed.variable_id])
    if signed.has_expired and (known is None or known.assurance != Assurance.VERIFIED):
        return token_error("The token has expired.")
    return None


def _close_or_list(
    conversation: MergedConversation,
    incoming: IncomingDocument,
    erased: dict[Chatter, Erasure],
    declared: DeclaredVariables,
    *,
    kept: set[int],
    is_held: bool,
) -> list[rows.Refusal]:
    """Mark a conversation whose document has erased chatters for their erasure; return the refusals to list.

    A legal hold prevents the mark. Then each chatter is listed: an officer decides when the hold is released. A
    chatter that only the token has is listed in any case, as in `identification`, and does not mark a conversation
    in `kept`.
    """
    only_signed = {chatter for chatter in erased if incoming.is_only_signed(chatter)}
    refusals = [
        rows.Refusal(
            conversation,
            erased[chatter],
            EstablishedBy.SIGNED if chatter in only_signed else declared.established_by[chatter[0]],
        )
        for chatter in (erased if is_held else only_signed)
    ]
    is_open = conversation.number in kept or bool(conversation.known_identities)
    closing = {chatter: erasure for chatter, erasure in erased.items() if not (chatter in only_signed and is_open)}
    if closing and not is_held:
        conversation.close(max(closing.values()).request_id, closing)
    return refusals


def _erased_chatters(
    incoming: IncomingDocument, conversation: MergedConversation | None, tombstones: Tombstones
) -> dict[Chatter, Erasure]:
    """Return the document's chatters who were erased after its conversation began, each with the latest erasure.

    For a stored conversation, only the stored start counts: otherwise a document could move it across an erasure.
    """
    if conversation is None:
        number, started_at = None, incoming.document.get("started_at")
    else:
        number, started_at = conversation.number, conversation.row.started_at
    erased: dict[Chatter, Erasure] = {}
    for chatter in incoming.chatters.items():
        is_known = conversation is not None and chatter[1] in conversation.known_identities
        latest = tombstones.latest_erasure(chatter, number=number, started_at=started_at, is_known=is_known)
        if latest is not None:
            erased[chatter] = latest
    return erased
