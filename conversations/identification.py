"""Store identities of conversations that are stored already, apart from their documents.

The client's server asserts them (`POST conversations/identify`), or workers look them up. They are stored in the same
way as by intake (`intake`): under its lock on the chatbot and the locks of the conversations, with the erased
chatters read after them. So an identity is either stored before an erasure's mark, which then finds it, or refused
after it.

There is one difference. A document with an erased chatter closes the conversation, since it contains the chatter's
messages. Here a caller could close any conversation by sending an erased chatter's value. So an identity of an erased
chatter marks a conversation only if that has no identity at all, and no export waits for it (`rows.find_kept`). Each
refused identity is listed for an officer (`RefusedIdentity`).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from django.db import Error as DatabaseError
from django.db import transaction

from chatbots.models import Chatbot, uci_value_fault
from common.crypto import digest
from common.database_errors import describe_database_error
from common.problems import FieldError, error_at
from conversations import rows
from conversations.documents import DocumentInvalid
from conversations.intake import IntakeFailed
from conversations.locks import share_with_intake
from conversations.merge import DeclaredVariables, EstablishedBy, MergedConversation, NewIdentity
from conversations.tombstones import Chatter, Erasure, Tombstones

MAX_IDENTITIES = 1000

KEY, VALUE = "unique_chatter_identifier_key", "unique_chatter_identifier_value"


@dataclass(frozen=True, slots=True, kw_only=True)
class GivenIdentity:
    """The chatter of a conversation: the name of its UCI, and the exact value.

    The conversation is identified by the platform's `id`, or by our `number`.
    """

    id: str | None = field(default=None, repr=False)
    number: int | None = None
    key: str
    value: str = field(repr=False)


class IdentityOutcome(StrEnum):
    CREATED = "created"
    CONFIRMED = "confirmed"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class IdentifyResult:
    """The result of one identity. Pointers of `errors` begin at the item.

    `id` is the platform's id as given, None if none was given or it is unreadable; `number` is our number, None if
    there is no such conversation or the identity is a DocumentInvalid.
    """

    id: str | None
    number: int | None
    outcome: IdentityOutcome
    errors: tuple[FieldError, ...] = ()


def identify(
    *,
    chatbot: Chatbot,
    identities: Sequence[GivenIdentity | DocumentInvalid],
    way: EstablishedBy = EstablishedBy.ASSERTED,
) -> list[IdentifyResult]:
    """Store identities in one transaction, and return their results in order. Safe to repeat.

    Each is stored or refused by itself; a DocumentInvalid is refused with its errors. `confirmed`: the conversation
    had the value before, and keeps the stronger of the two sources.

    Raises ValueError for more than MAX_IDENTITIES, IntakeFailed when the database refuses: then none is stored.
    """
    if len(identities) > MAX_IDENTITIES:
        raise ValueError(f"At most {MAX_IDENTITIES} identities can be stored at once.")
    try:
        with transaction.atomic():
            return _identify(chatbot, [_checked(one) for one in identities], way)
    except DatabaseError as error:
        failure = describe_database_error(error)
    # Raised outside the except block: its context would quote rows.
    raise IntakeFailed(failure)


def _checked(identity: GivenIdentity | DocumentInvalid) -> GivenIdentity | DocumentInvalid:
    """Return the identity, or the error of its value."""
    if isinstance(identity, DocumentInvalid):
        return identity
    fault = uci_value_fault(identity.value)
    if fault is None:
        return identity
    return DocumentInvalid((error_at((VALUE,), "invalid", fault),), document_id=identity.id)


@dataclass(slots=True)
class _Incoming:
    """An identity with its stored conversation, and the latest erasure of its chatter that covers the conversation.

    Without `chatter`, its key is not a UCI.
    """

    named: GivenIdentity
    digest: bytes | None
    chatter: Chatter | None
    conversation: MergedConversation | None = None
    is_erased: bool = False
    erasure: Erasure | None = None

    @classmethod
    def resolve(cls, named: GivenIdentity, declared: DeclaredVariables) -> "_Incoming":
        variable = declared.by_name.get(named.key)
        public_id = declared.uci_public_ids.get(variable.pk) if variable else None
        return cls(
            named,
            None if named.id is None else digest("conversation", declared.chatbot.public_id, named.id),
            (variable.pk, digest("chatter", public_id, named.value)) if variable and public_id else None,
        )

    @property
    def target(self) -> tuple[MergedConversation, bytes] | None:
        """The conversation and the chatter's digest, if the conversation is open and this is its UCI."""
        one = self.conversation
        if one is None or one.is_closed or self.chatter is None or self.chatter[0] != one.row.uci_variable_id:
            return None
        return one, self.chatter[1]


def _identify(
    chatbot: Chatbot, identities: Sequence[GivenIdentity | DocumentInvalid], way: EstablishedBy
) -> list[IdentifyResult]:
    share_with_intake(chatbot.pk)
    declared = DeclaredVariables.read(chatbot)
    incoming = [one if isinstance(one, DocumentInvalid) else _Incoming.resolve(one, declared) for one in identities]
    valid = [one for one in incoming if isinstance(one, _Incoming)]

    tombstones = Tombstones.read(
        chatbot_id=chatbot.pk,
        chatters=(one.chatter for one in valid if one.chatter),
        conversations=(one.digest for one in valid if one.digest is not None),
    )
    conversations = rows.lock_conversations(
        chatbot_id=chatbot.pk,
        digests=(one.digest for one in valid if one.digest is not None),
        numbers=(one.named.number for one in valid if one.named.number is not None),
    )
    _find(valid, conversations, tombstones)
    rows.read_identities((one.target for one in valid if one.target), chatbot_id=chatbot.pk)
    _find_erasures(valid, tombstones)
    of_erased = [one.target[0] for one in valid if one.target and one.erasure]
    kept = rows.find_kept(of_erased, chatbot_id=chatbot.pk)

    refusals: list[rows.Refusal] = []
    results = [
        IdentifyResult(one.document_id, None, IdentityOutcome.REFUSED, one.errors)
        if isinstance(one, DocumentInvalid)
        else _merge(one, way=way, kept=kept, refusals=refusals)
        for one in incoming
    ]
    rows.write(chatbot_id=chatbot.pk, conversations=list(conversations.values()))
    rows.list_refused(refusals, chatbot_id=chatbot.pk)
    return results


def _find(
    incoming: Sequence[_Incoming], conversations: dict[bytes, MergedConversation], tombstones: Tombstones
) -> None:
    by_number = {conversation.number: conversation for conversation in conversations.values()}
    for one in incoming:
        one.conversation = by_number.get(one.named.number) if one.digest is None else conversations.get(one.digest)
        one.is_erased = one.digest is not None and tombstones.has_conversation(one.digest)


def _find_erasures(incoming: Sequence[_Incoming], tombstones: Tombstones) -> None:
    for one in incoming:
        if one.target and one.chatter:
            conversation, chatter_digest = one.target
            one.erasure = tombstones.latest_erasure(
                one.chatter,
                number=conversation.number,
                started_at=conversation.row.started_at,
                is_known=chatter_digest in conversation.known_identities,
            )


def _merge(one: _Incoming, *, way: EstablishedBy, kept: set[int], refusals: list[rows.Refusal]) -> IdentifyResult:
    """Refuse the identity, or add it to its conversation. `kept` are the conversations that must not be closed."""
    conversation = one.conversation
    if one.is_erased if conversation is None else conversation.is_closed:
        detail = "This conversation was deleted; nothing more is stored in it."
        return _refused(one, error_at((), "conversation_deleted", detail))
    if conversation is None:
        return _refused(one, error_at(("id",), "unknown_conversation", "No conversation with this id is stored."))
    if one.target is None or one.chatter is None:
        detail = "Must be the Unique Chatter Identifier with which the conversation began."
        return _refused(one, error_at((KEY,), "invalid", detail))
    if one.erasure is not None:
        if conversation.number not in kept and not conversation.known_identities:
            conversation.close(one.erasure.request_id, [one.chatter])
        refusals.append(rows.Refusal(conversation, one.erasure, way))
        detail = "The chatter was erased after this conversation began."
        return _refused(one, error_at((), "chatter_erased", detail))
    variable_id, chatter_digest = one.chatter
    is_known = chatter_digest in conversation.known_identities
    conversation.add_identity(NewIdentity(variable_id, chatter_digest, one.named.value, way))
    outcome = IdentityOutcome.CONFIRMED if is_known else IdentityOutcome.CREATED
    return IdentifyResult(one.named.id, conversation.number, outcome)


def _refused(one: _Incoming, error: FieldError) -> IdentifyResult:
    number = one.conversation.number if one.conversation else None
    return IdentifyResult(one.named.id, number, IdentityOutcome.REFUSED, (error,))
