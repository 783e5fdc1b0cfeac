"""The number of conversations of each UCI."""

import pytest

from chatbots.models import Chatbot
from chatbots.operations.chatbots import designate_uci
from conversations import usage
from conversations.usage import UciCount, conversations_by_uci
from tests import factories


def test_it_counts_what_the_present_and_the_former_uci_name_in_one_statement(
    chatbot: Chatbot, neighbour: Chatbot, monkeypatch: pytest.MonkeyPatch, django_assert_num_queries
) -> None:
    monkeypatch.setattr(usage, "MAX_PER_UCI", 2)
    former = factories.uci_of(chatbot)
    for value in ("1", "1", "2"):
        factories.conversation_of(chatbot, value, messages=0)
    present = designate_uci(chatbot=chatbot, name="plan", actor="command")
    for value in ("gold", "silver"):
        factories.conversation_of(chatbot, value, messages=0)
    factories.conversation_of(neighbour, "1", messages=0)

    with django_assert_num_queries(1):
        counted = conversations_by_uci(chatbot=chatbot)

    assert counted == {former.pk: UciCount(2, is_more=True), present.pk: UciCount(2, is_more=False)}


def test_a_uci_without_conversations_counts_zero(chatbot: Chatbot) -> None:
    assert conversations_by_uci(chatbot=chatbot) == {factories.uci_of(chatbot).pk: UciCount(0, is_more=False)}
