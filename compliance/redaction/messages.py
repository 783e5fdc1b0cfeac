"""The messages of redactions, by their conversation and numbers: found by the ledger's digests, and emptied."""

from collections.abc import Collection
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from django.db.models import QuerySet

from chatbots.models import Chatbot
from compliance.erasure import extracts
from compliance.erasure.extracts import DeletedSpan
from compliance.models import LedgerLine, Redaction
from conversations import tombstones
from conversations.models import Conversation, Message, UploadedFile
from conversations.tombstones import NewTombstone, message_digest


class FoundMessages(NamedTuple):
    """The number of an open conversation (None if there is none) and the numbers of its messages, by digest.

    `with_text` are the numbers of messages that are not redacted. `is_closed`: the conversation is marked or erased.
    """

    conversation: int | None
    numbers: dict[bytes, int]
    with_text: set[int]
    is_closed: bool


def find(chatbot: Chatbot, conversation: bytes, digests: Collection[bytes]) -> FoundMessages:
    """Find messages of a conversation by the digests of their ids, as lines of the ledger contain them."""
    conversations = Conversation.objects.filter(chatbot=chatbot, external_id_digest=conversation)
    number, mark = conversations.values_list("pk", "deletion_request_id").first() or (None, None)
    if mark is not None:
        return FoundMessages(None, {}, set(), is_closed=True)
    messages = Message.objects.filter(chatbot=chatbot, conversation=number) if number else Message.objects.none()
    found = {
        message_digest(chatbot.public_id, conversation, external_id): (pk, kind)
        for pk, external_id, kind in messages.values_list("pk", "external_id", "kind")
    }
    wanted = {digest: found[digest] for digest in digests if digest in found}
    return FoundMessages(
        number,
        {digest: pk for digest, (pk, _) in wanted.items()},
        {pk for pk, kind in wanted.values() if kind != Message.Kind.REDACTED},
        is_closed=False,
    )


def find_lost(redaction: Redaction, now: datetime) -> None:
    """Add to a replayed redaction the messages that were sent again since it was filed, and remember the others.

    Call it in the transaction that empties them, under intake's lock. Messages whose rows a restore has lost are
    stored as redacted from then on.
    """
    line = LedgerLine.objects.filter(request_id=redaction.request_id).values_list("line", flat=True).first()
    if line is None:
        return
    wanted = [bytes.fromhex(one) for one in line["messages"]]
    conversation = bytes.fromhex(line["conversation"])
    found = find(redaction.chatbot, conversation, wanted)
    redaction.message_numbers = sorted({*redaction.message_numbers, *found.numbers.values()})
    redaction.save(update_fields=["message_numbers"])
    remember(redaction.chatbot, redaction.request_id, conversation, set(wanted).difference(found.numbers), now)


def remember(
    chatbot: Chatbot, request_id: UUID, conversation: bytes, messages: Collection[bytes], now: datetime
) -> None:
    """Store digests of a conversation and its messages, so that intake stores these messages as redacted."""
    rows = [NewTombstone(message, conversation, request_id, now) for message in messages]
    tombstones.write(rows, chatbot_id=chatbot.pk)


def lock(redaction: Redaction) -> bool:
    """Lock the redaction's conversation for the caller's transaction; return False if another one has locked it."""
    rows = Conversation.objects.select_for_update(skip_locked=True)
    return bool(rows.filter(chatbot=redaction.chatbot_id, pk=redaction.conversation_id).values_list("pk"))


def redacted_at(redaction: Redaction) -> datetime | None:
    """Return when the last message of the redaction was redacted, if all were; they may be erased since.

    The caller has locked the conversation.
    """
    if _with_text(redaction).exists():
        return None
    begun = Redaction.objects.filter(
        conversation_id=redaction.conversation_id,
        message_numbers__overlap=redaction.message_numbers,
        request__cutoff_at__isnull=False,
    )
    rows = list(begun.values_list("request__cutoff_at", "message_numbers"))
    is_each = {number for _, numbers in rows for number in numbers}.issuperset(redaction.message_numbers)
    return max(at for at, _ in rows if at) if is_each else None


def empty(redaction: Redaction) -> int:
    """Empty the messages of a locked conversation, hide their files, and flag the extracts of their days.

    Returns the number of messages that had not been redacted. Call it in a transaction. Messages that do not exist
    any more, or are redacted already, are skipped.
    """
    # No reader uses them any more, and no export that begins now includes them.
    UploadedFile.objects.filter(
        chatbot=redaction.chatbot_id,
        conversation=redaction.conversation_id,
        message_id__in=redaction.message_numbers,
    ).update(state=UploadedFile.State.REMOVING, name="")
    sent = list(_with_text(redaction).values_list("sent_at", flat=True))
    _with_text(redaction).update(kind=Message.Kind.REDACTED, text="")
    extracts.flag([DeletedSpan(redaction.conversation_id, redaction.chatbot_id, at, at) for at in sent])
    return len(sent)


def _with_text(redaction: Redaction) -> QuerySet[Message]:
    return Message.objects.filter(
        chatbot=redaction.chatbot_id, conversation=redaction.conversation_id, pk__in=redaction.message_numbers
    ).exclude(kind=Message.Kind.REDACTED)
