"""Values stored before their variable became the UCI, which no deletion by the UCI would find."""

from typing import Any

import pytest
from django.db import transaction

from chatbots.models import Chatbot
from chatbots.operations.chatbots import designate_uci
from compliance import worker
from compliance.erasure import uci_values
from conversations.intake import store
from conversations.models import VariableValue
from tests.compliance.conftest import Drain
from tests.conversations.documents import parsed
from tests.factories import VariableFactory, deletion_of
from tests.functional.elsewhere import Elsewhere, Gate
from tests.functional.support import dump

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def email(chatbot: Chatbot, neighbour: Chatbot) -> Any:
    """A variable that is not the UCI yet; another chatbot has one of the same name."""
    VariableFactory.create(chatbot=neighbour, name="email", is_uci=False)
    return VariableFactory.create(chatbot=chatbot, name="email", is_uci=False)


def carrying(document_id: str, email: str) -> Any:
    return parsed(document_id, custom_variables={"email": email}, user_channel_variables={"plan": "gold"})


def values() -> list[tuple[str, str]]:
    rows = VariableValue.objects.order_by("chatbot", "variable__name", "value")
    return list(rows.values_list("chatbot__slug", "variable__name").distinct())


LEFT = [("acme", "plan"), ("neighbour", "email"), ("neighbour", "plan")]


def test_the_sweep_after_a_designation_deletes_earlier_values(
    chatbot: Chatbot, neighbour: Chatbot, email: Any, drain: Drain, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uci_values, "_ROWS_PER_PAGE", 2)
    for owner, whose in ((chatbot, "ada@example.com"), (neighbour, "grace@example.com")):
        store(chatbot=owner, documents=[carrying(f"c-{number}", whose) for number in range(3)])
    designate_uci(chatbot=chatbot, name="email", actor="command")
    deletion_of(chatbot, "ada@example.com")
    drain()

    worker.sweep()

    assert values() == LEFT
    assert "ada@example.com" not in dump()


def test_values_stored_by_an_intake_during_the_designation_are_deleted_too(chatbot: Chatbot, email: Any) -> None:
    gate = Gate()

    def intake() -> None:
        with transaction.atomic():
            store(chatbot=chatbot, documents=[carrying("c-1", "ada@example.com")])
            gate.passed()

    under_way = Elsewhere(intake)
    gate.wait_for_someone()
    designate_uci(chatbot=chatbot, name="email", actor="command")
    sweep = Elsewhere(worker.sweep)
    assert sweep.waits
    gate.open()
    for one in (under_way, sweep):
        one.end()

    assert values() == [("acme", "plan")]


def test_a_locked_value_is_deleted_by_the_next_sweep(chatbot: Chatbot, email: Any) -> None:
    store(chatbot=chatbot, documents=[carrying("c-1", "ada@example.com"), carrying("c-2", "ada@example.com")])
    designate_uci(chatbot=chatbot, name="email", actor="command")

    with transaction.atomic():
        locked = VariableValue.objects.filter(chatbot=chatbot, variable=email).select_for_update()[0]
        Elsewhere(worker.sweep).end()

    assert list(VariableValue.objects.filter(variable=email)) == [locked]
    worker.sweep()
    assert values() == [("acme", "plan")]


def test_the_table_is_read_once_for_a_designation(
    chatbot: Chatbot, email: Any, django_assert_num_queries: Any
) -> None:
    uci_values.erase()
    store(chatbot=chatbot, documents=[carrying("c-1", "ada@example.com")])
    with django_assert_num_queries(1):
        uci_values.erase()

    designate_uci(chatbot=chatbot, name="email", actor="command")
    uci_values.erase()
    assert values() == [("acme", "plan")]
    with django_assert_num_queries(1):
        uci_values.erase()
