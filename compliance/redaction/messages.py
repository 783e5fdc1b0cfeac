"""What redactions empty, messages and CSAT comments: found by the ledger's digests, and emptied."""

from collections import Counter
from collections.abc import Collection
from datetime import UTC, datetime
from typing import NamedTuple
from uuid import UUID

from django.db.models import Max, Min, Q, QuerySet
from django.db.models.functions import TruncHour

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
    `is_comment_redacted`: nothing is to be done about its CSAT comment.
    """

    conversation: int | None
    numbers: dict[bytes, int]
    with_text: set[int]
    is_closed: bool
    is_comment_redacted: bool


def find(chatbot: Chatbot, conversation: bytes, digests: Collection[bytes]) -> FoundMessages:
    """Find messages of a conversation by the digests of their ids, as lines of the ledger contain them."""
    conversations = Conversation.objects.filter(chatbot=chatbot, external_id_digest=conversation)
    columns = "pk", "deletion_request_id", "csat_comment_redacted"
    number, mark, is_comment_redacted = conversations.values_list(*columns).first() or (None, None, False)
    if mark is not None:
        return FoundMessages(None, {}, set(), is_closed=True, is_comment_redacted=is_comment_redacted)
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
        is_comment_redacted=is_comment_redacted,
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
    """Store digests of a conversation and its messages or its comment, so that intake stores these as redacted."""
    rows = [NewTombstone(message, conversation, request_id, now) for message in messages]
    tombstones.write(rows, chatbot_id=chatbot.pk)


def lock(redaction: Redaction) -> bool:
    """Lock the redaction's conversation for the caller's transaction; return False if another one has locked it."""
    rows = Conversation.objects.select_for_update(skip_locked=True)
    return bool(rows.filter(chatbot=redaction.chatbot_id, pk=redaction.conversation_id).values_list("pk"))


def redacted_at(redaction: Redaction) -> datetime | None:
    """Return when the last part of the redaction was redacted, if each was; they may be erased since.

    The caller has locked the conversation.
    """
    if _with_text(redaction).exists() or _of_comment(redaction).exists():
        return None
    overlapping = Q(message_numbers__overlap=redaction.message_numbers)
    if redaction.csat_comment:
        overlapping |= Q(csat_comment=True)
    begun = Redaction.objects.filter(
        overlapping, conversation_id=redaction.conversation_id, request__cutoff_at__isnull=False
    )
    rows = list(begun.values_list("request__cutoff_at", "message_numbers", "csat_comment"))
    is_each = {number for _, numbers, _ in rows for number in numbers}.issuperset(redaction.message_numbers)
    is_comment = not redaction.csat_comment or any(is_comment for *_, is_comment in rows)
    return max(at for at, *_ in rows if at) if is_each and is_comment else None


def empty(redaction: Redaction) -> Counter[str]:
    """Empty the messages and the comment of a locked conversation, hide files, and flag the extracts of their days.

    Returns the numbers of messages and comments that had not been redacted. Call it in a transaction. What does not
    exist any more, or is redacted already, is skipped.
    """
    # No reader uses them any more, and no export that begins now includes them.
    UploadedFile.objects.filter(
        chatbot=redaction.chatbot_id,
        conversation=redaction.conversation_id,
        message_id__in=redaction.message_numbers,
    ).update(state=UploadedFile.State.REMOVING, name="")
    sent = list(_with_text(redaction).values_list("sent_at", flat=True))
    _with_text(redaction).update(kind=Message.Kind.REDACTED, text="")
    spans = [(at, at) for at in sent]
    comments = _of_comment(redaction).filter(csat_comment__isnull=False).count()
    # Without a comment too: one that comes later stays out.
    if _of_comment(redaction).update(csat_comment=None, csat_comment_redacted=True):
        spans = _all_hours(redaction)
    extracts.flag([DeletedSpan(redaction.conversation_id, redaction.chatbot_id, *span) for span in spans])
    return +Counter(messages=len(sent), csat_comments=comments)


def _of_comment(redaction: Redaction) -> QuerySet[Conversation]:
    """Return the conversation if its comment is still to be redacted. An erased one has none."""
    if not redaction.csat_comment:
        return Conversation.objects.none()
    return Conversation.objects.filter(
        chatbot=redaction.chatbot_id,
        pk=redaction.conversation_id,
        deleted_at__isnull=True,
        csat_comment_redacted=False,
    )


def _all_hours(redaction: Redaction) -> list[tuple[datetime, datetime]]:
    """Return the times of the first and the last message of each hour: all lines of extracts have the comment."""
    messages = Message.objects.filter(chatbot=redaction.chatbot_id, conversation=redaction.conversation_id)
    hours = messages.annotate(hour=TruncHour("sent_at", tzinfo=UTC)).values("hour")
    return list(hours.annotate(first=Min("sent_at"), last=Max("sent_at")).values_list("first", "last"))


def _with_text(redaction: Redaction) -> QuerySet[Message]:
    return Message.objects.filter(
        chatbot=redaction.chatbot_id, conversation=redaction.conversation_id, pk__in=redaction.message_numbers
    ).exclude(kind=Message.Kind.REDACTED)
