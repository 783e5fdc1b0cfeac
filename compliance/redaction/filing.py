"""File a redaction: check the conversation and its messages, and store the request with its subject."""

from collections.abc import Collection, Mapping, Sequence
from functools import partial
from typing import NamedTuple
from uuid import UUID

from django.db import transaction
from django.db.models.functions import Now
from uuid_utils.compat import uuid7

from chatbots import changelog
from chatbots.models import Chatbot
from compliance.cluster import notify
from compliance.deadlines import OPEN, deadline_from
from compliance.errors import Refused
from compliance.models import ComplianceRequest, Redaction
from compliance.models.redaction import MOST_MESSAGES
from compliance.requests.inputs import ChatbotConfig, check_reference, checked_callback_url, read_requested_at
from compliance.requests.selectors import ByMessages
from compliance.requests.submit import CONSOLE_GRACE
from conversations.models import Conversation, Message
from conversations.tombstones import message_digest


def redact(
    *,
    chatbot: Chatbot,
    number: int,
    ids: Sequence[str] = (),
    message_numbers: Sequence[int] = (),
    csat_comment: bool = False,
    reason: str,
    origin: ComplianceRequest.Origin,
    actor: str,
    reference: str = "",
    callback_url: str = "",
    requested_at: str = "",
) -> ComplianceRequest:
    """File the redaction of messages of the conversation with this number, and return its request.

    The messages are given by the platform's `ids`, or by numbers of ours; with `csat_comment`, the comment too, or
    alone. `requested_at` is as in RequestInput. Workers take it at once, without the chatbot's grace period, and from
    the console after the console's own: what was selected by mistake cannot be restored. It is not an error if a
    message or the comment is redacted already. In the console, it is an error if an open redaction includes it.
    `actor` is as in the change log.

    Raises Refused with the codes `compliance_disabled`, `not_found`, `conversation_deleted`, `invalid`,
    `signing_key_missing`; nothing is stored then.
    """
    config = ChatbotConfig(chatbot)
    config.require_compliance()
    if reason not in Redaction.Reason.values:
        detail = f"The reason must be one of {', '.join(Redaction.Reason.values)}."
        raise Refused("invalid", detail, pointer="/reason")
    conversation = _open_conversation(chatbot, number)
    if csat_comment and conversation.csat_comment is None and not conversation.csat_comment_redacted:
        raise Refused("invalid", "The conversation has no CSAT comment.", pointer="/csat_comment")
    least = 0 if csat_comment else 1
    numbers = _numbers_of(chatbot, number, ids) if ids else _ours(chatbot, number, message_numbers, least=least)
    selector = ByMessages(tuple(ids))
    check_reference(reference, selector)
    asked = read_requested_at(requested_at, chatbot)
    request = ComplianceRequest(
        id=uuid7(),
        chatbot=chatbot,
        kind=ComplianceRequest.Kind.REDACTION,
        origin=origin,
        filed_by=actor,
        message_digests=_digests_of(conversation, numbers),
        reference=reference,
        callback_url=checked_callback_url(callback_url, selector, config),
        requested_at=asked,
        not_before=Now() + CONSOLE_GRACE if origin == ComplianceRequest.Origin.CONSOLE else None,
        **deadline_from(asked, chatbot_id=chatbot.pk),
    )
    with transaction.atomic():
        if origin == ComplianceRequest.Origin.CONSOLE:
            # The second of two tabs waits here until the first has filed.
            list(Conversation.objects.select_for_update(no_key=True).filter(chatbot=chatbot, pk=number))
            refuse_waiting(chatbot=chatbot, number=number, message_numbers=numbers, csat_comment=csat_comment)
        request.save(force_insert=True)
        Redaction.objects.create(
            request=request,
            chatbot=chatbot,
            conversation_id=number,
            message_numbers=numbers,
            csat_comment=csat_comment,
            reason=reason,
        )
        data: dict[str, str | bool] = {"kind": str(request.kind), "origin": str(request.origin), "reason": reason}
        if csat_comment:
            data["csat_comment"] = True
        changelog.record("request.accepted", chatbot_id=chatbot.pk, request_id=request.pk, actor=actor, data=data)
        notify.after_commit(notify.notify_workers)
    request.refresh_from_db()
    return request


class Waiting(NamedTuple):
    """The requests of a conversation's open redactions: the first one of each message, and of the CSAT comment."""

    messages: dict[int, UUID]
    csat_comment: UUID | None


def waiting(*, chatbot: Chatbot, number: int) -> Waiting:
    """Return what open redactions include of a conversation."""
    named = Redaction.objects.filter(chatbot=chatbot, conversation_id=number, request__status__in=OPEN)
    found = list(named.order_by("-pk").values_list("request", "message_numbers", "csat_comment"))
    messages = {one: request_id for request_id, numbers, _ in found for one in numbers}
    comments = [request_id for request_id, _, is_of_comment in found if is_of_comment]
    return Waiting(messages, comments[-1] if comments else None)


def refuse_waiting(
    *, chatbot: Chatbot, number: int, message_numbers: Collection[int], csat_comment: bool = False
) -> None:
    """Raise Refused(`invalid`) if an open redaction includes one of these messages, or the comment."""
    found = waiting(chatbot=chatbot, number=number)
    if not found.messages.keys().isdisjoint(message_numbers):
        detail = "An open redaction includes a selected message already. The transcript marks it."
        raise Refused("invalid", detail)
    if csat_comment and found.csat_comment:
        raise Refused("invalid", "An open redaction includes the CSAT comment already. The transcript marks it.")


def _open_conversation(chatbot: Chatbot, number: int) -> Conversation:
    conversation = Conversation.objects.filter(chatbot=chatbot, pk=number).first()
    if conversation is None:
        raise Refused("not_found", "The chatbot has no conversation with this number.")
    if conversation.is_closed:
        raise Refused("conversation_deleted", "The conversation was deleted, or is being deleted.")
    return conversation


def _numbers_of(chatbot: Chatbot, number: int, ids: Sequence[str]) -> list[int]:
    """Return our numbers of the messages with these ids. Raises Refused(`invalid`) at the first fault."""
    for fault in ByMessages(tuple(ids)).faults():
        raise fault
    found = Message.objects.filter(chatbot=chatbot, conversation=number, external_id__in=ids)
    by_id: Mapping[str, int] = dict(found.values_list("external_id", "pk"))
    for place, one in enumerate(ids):
        if one not in by_id:
            detail = "The conversation has no message with this id."
            raise Refused("invalid", detail, pointer=f"/ids/{place}")
    return [by_id[one] for one in ids]


def _digests_of(conversation: Conversation, numbers: Collection[int]) -> list[bytes]:
    messages = Message.objects.filter(chatbot=conversation.chatbot_id, conversation=conversation.pk, pk__in=numbers)
    digest_of = partial(message_digest, conversation.chatbot.public_id, bytes(conversation.external_id_digest or b""))
    return [digest_of(external_id) for external_id in messages.order_by("pk").values_list("external_id", flat=True)]


def _ours(chatbot: Chatbot, number: int, message_numbers: Sequence[int], *, least: int) -> list[int]:
    wanted = sorted(set(message_numbers))
    if not least <= len(wanted) <= MOST_MESSAGES:
        raise Refused("invalid", f"Select 1 to {MOST_MESSAGES} messages.", pointer="/ids")
    found = Message.objects.filter(chatbot=chatbot, conversation=number, pk__in=wanted).values_list("pk", flat=True)
    if set(found) != set(wanted):
        raise Refused("not_found", "A selected message is not in this conversation.")
    return wanted
