"""Subjects of a request: the UCIs of a chatbot, and the chatters of a conversation."""

from collections.abc import Sequence

from django.db.models import Q

from chatbots.models import Chatbot, Variable
from console.filing.drafts import Draft
from conversations.models import Conversation, Identity


class NoConversation(Exception):
    """The chatbot has no conversation with this number."""


class ClosedConversation(Exception):
    """The conversation is deleted or being deleted."""


def uci_names(chatbot: Chatbot) -> list[tuple[str, str]]:
    """Return the UCIs of a chatbot with their labels, the current one first."""
    ucis = Variable.objects.filter(Q(is_uci=True) | Q(was_uci=True), chatbot=chatbot).order_by("-is_uci", "name")
    return [(uci.name, uci.name if uci.is_uci else f"{uci.name} (former)") for uci in ucis]


def subjects_of(chatbot: Chatbot, number: int) -> list[Draft]:
    """Return the chatters of a conversation, then the conversation alone, as drafts without a kind.

    Raises NoConversation, ClosedConversation.
    """
    conversation = Conversation.objects.filter(chatbot=chatbot, pk=number).first()
    if conversation is None:
        raise NoConversation
    if conversation.is_closed or conversation.external_id is None:
        raise ClosedConversation
    ucis = dict(Variable.objects.filter(chatbot=chatbot).values_list("pk", "name"))
    identities = Identity.objects.filter(chatbot=chatbot, conversation=conversation, value__isnull=False).order_by(
        "pk"
    )
    people = ((uci, str(value)) for uci, value in identities.values_list("variable_id", "value"))
    alone = Draft("", ids=(conversation.external_id,))
    return [*(Draft("", key=ucis[uci], values=(value,)) for uci, value in people), alone]


def ids_of(chatbot: Chatbot, numbers: Sequence[int]) -> list[str]:
    """Return the platform's ids of open conversations, in this order.

    Raises NoConversation with the first number that has none.
    """
    open_ones = Conversation.objects.filter(chatbot=chatbot, pk__in=numbers, deletion_request_id__isnull=True)
    known = dict(open_ones.values_list("pk", "external_id"))
    for number in numbers:
        if known.get(number) is None:
            raise NoConversation(number)
    return [str(known[number]) for number in numbers]
