"""Whom a request of the console can be about: the UCIs of a chatbot, and what a conversation's number leads to."""

from collections.abc import Sequence
from dataclasses import dataclass

from django.db.models import Q

from chatbots.models import Chatbot, Variable
from console.filing.drafts import Draft
from conversations.models import Conversation, Identity


class NoConversation(Exception):
    """There is none of this number in this chatbot."""


class ClosedConversation(Exception):
    """Its deletion is under way or done."""


@dataclass(frozen=True)
class Subject:
    """One that can be chosen. `number` is that of the conversation it was read from."""

    draft: Draft
    number: int


def uci_names(chatbot: Chatbot) -> list[tuple[str, str]]:
    """Return the UCIs of a chatbot and what is shown of each, the present one first."""
    ucis = Variable.objects.filter(Q(is_uci=True) | Q(was_uci=True), chatbot=chatbot).order_by("-is_uci", "name")
    return [(uci.name, uci.name if uci.is_uci else f"{uci.name} (former)") for uci in ucis]


def subjects_of(chatbot: Chatbot, number: int) -> list[Subject]:
    """Return the chatters of a conversation, then it alone. Raises NoConversation, ClosedConversation."""
    conversation = Conversation.objects.filter(chatbot=chatbot, pk=number).first()
    if conversation is None:
        raise NoConversation
    if conversation.is_closed or conversation.external_id is None:
        raise ClosedConversation
    ucis = dict(Variable.objects.filter(chatbot=chatbot).values_list("pk", "name"))
    identities = Identity.objects.filter(conversation=conversation, value__isnull=False).order_by("pk")
    people = ((uci, str(value)) for uci, value in identities.values_list("variable_id", "value"))
    alone = Subject(Draft("", ids=(conversation.external_id,)), number)
    return [*(Subject(Draft("", key=ucis[uci], values=(value,)), number) for uci, value in people), alone]


def ids_of(chatbot: Chatbot, numbers: Sequence[int]) -> list[str]:
    """Return the platform's ids of conversations that are open, in this order.

    Raises NoConversation with the first number that is not one of them.
    """
    open_ones = Conversation.objects.filter(chatbot=chatbot, pk__in=numbers, deletion_request_id__isnull=True)
    known = dict(open_ones.values_list("pk", "external_id"))
    for number in numbers:
        if known.get(number) is None:
            raise NoConversation(number)
    return [str(known[number]) for number in numbers]
