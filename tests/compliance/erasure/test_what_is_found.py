"""What a deletion finds by its chatter's value: each conversation, however it was identified, and whenever."""

from typing import Any

import pytest
from django.db import transaction
from django.utils import timezone
from hypothesis import given
from hypothesis import strategies as st

from chatbots.models import Chatbot
from chatbots.operations.chatbots import designate_uci
from compliance import worker
from compliance.erasure import rows, uci_values
from compliance.models import ComplianceRequest
from compliance.requests.results import assurance_of
from conversations.intake import store
from conversations.models import Assurance, Conversation, Identity, VariableValue
from tests.compliance.conftest import Drain
from tests.conversations.documents import parsed
from tests.factories import VariableFactory, conversation_by, conversation_of, deletion_of, of_conversations
from tests.functional.elsewhere import Elsewhere, uncommitted
from tests.functional.support import dump
from tests.fuzzing import examples

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


def test_the_sweep_after_a_designation_deletes_earlier_values(chatbot, neighbour, email, drain, monkeypatch) -> None:
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
    with uncommitted(lambda: store(chatbot=chatbot, documents=[carrying("c-1", "ada@example.com")])):
        designate_uci(chatbot=chatbot, name="email", actor="command")
        sweep = Elsewhere(worker.sweep)
        assert sweep.waits
    sweep.end()

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


def test_the_table_is_read_once_for_a_designation(chatbot, email, django_assert_num_queries) -> None:
    uci_values.erase()
    store(chatbot=chatbot, documents=[carrying("c-1", "ada@example.com")])
    with django_assert_num_queries(1):
        uci_values.erase()

    designate_uci(chatbot=chatbot, name="email", actor="command")
    uci_values.erase()
    assert values() == [("acme", "plan")]
    with django_assert_num_queries(1):
        uci_values.erase()


Way = Identity.EstablishedBy
MIXED = [Way.USER_CHANNEL, Way.USER_CHANNEL, Way.CUSTOM, Way.ASSERTED, Way.SIGNED, Way.RESOLVED]


def counted(request: ComplianceRequest) -> dict[Assurance, int] | None:
    request.refresh_from_db()
    assert request.status == "completed"
    return assurance_of(request)


def test_a_deletion_in_chunks_counts_all_and_erases_all(chatbot, drain, monkeypatch) -> None:
    monkeypatch.setattr(rows, "CHUNK_CONVERSATIONS", 2)
    for way in MIXED:
        conversation_by(chatbot, {"42": way})
    # Of two people, whose deletions mark it together: each by their own identity.
    conversation_by(chatbot, {"42": Way.USER_CHANNEL, "43": Way.SIGNED})
    Chatbot.objects.update(export_assurance="verified")
    first, second = deletion_of(chatbot, "42"), deletion_of(chatbot, "43")
    drain()
    assert counted(first) == {"user_channel": 3, "platform": 1, "verified": 3}
    assert counted(second) == {"user_channel": 0, "platform": 0, "verified": 1}
    assert not Conversation.objects.filter(deleted_at__isnull=True).exists()


def test_what_has_not_counted_the_ways_says_none_and_what_failed_after_its_mark_keeps_them(chatbot, drain) -> None:
    """By ids none are counted. They are unknown before the mark, and of what was marked before they were counted."""
    named = conversation_by(chatbot, {"42": Way.USER_CHANNEL})
    by_ids, nothing = of_conversations(chatbot, str(named.external_id)), deletion_of(chatbot, "43")
    conversation_by(chatbot, {"44": Way.USER_CHANNEL})
    failed = deletion_of(chatbot, "44")
    assert assurance_of(failed) is None
    drain()
    assert counted(by_ids) is None
    assert counted(nothing) == {"user_channel": 0, "platform": 0, "verified": 0}
    ComplianceRequest.objects.filter(pk=failed.pk).update(
        status="failed", failed_at=timezone.now(), error_code="x", completed_at=None, result=None
    )
    failed.refresh_from_db()
    assert assurance_of(failed) == {"user_channel": 1, "platform": 0, "verified": 0}
    ComplianceRequest.objects.filter(pk=nothing.pk).update(assurance_platform=0)
    conversation_of(chatbot, "45")
    before = deletion_of(chatbot, "45")
    drain()
    ComplianceRequest.objects.filter(pk=before.pk).update(assurance_platform=0)
    assert counted(before) is None


TALKS = st.lists(st.dictionaries(st.sampled_from(["42", "43"]), st.sampled_from(Way), min_size=1), max_size=4)


@examples(8)
@given(talks=TALKS)
def test_any_mix_is_counted_as_in_the_model(chatbot: Chatbot, drain: Drain, talks: list[dict[str, Way]]) -> None:
    for people in talks:
        conversation_by(chatbot, people, messages=0)
    both = {value: deletion_of(chatbot, value) for value in ("42", "43")}
    drain()
    for value, request in both.items():
        found = [people[value].assurance for people in talks if value in people]
        numbers = counted(request)
        assert numbers is not None
        assert numbers == {level: found.count(level) for level in numbers}
