"""A deletion erases all conversations of its chatter, and counts how the identities came when it marked."""

from uuid import UUID

import pytest
from django.utils import timezone
from hypothesis import given
from hypothesis import strategies as st

from chatbots.models import Chatbot
from compliance.erasure import rows
from compliance.models import ComplianceRequest
from compliance.requests.results import assurance_of
from conversations.models import Assurance, Conversation, Identity
from tests.compliance.conftest import Drain
from tests.factories import conversation_by, conversation_of, deletion_of, of_conversations
from tests.fuzzing import examples

pytestmark = pytest.mark.django_db(transaction=True)

Way = Identity.EstablishedBy
MIXED = [Way.USER_CHANNEL, Way.USER_CHANNEL, Way.CUSTOM, Way.ASSERTED, Way.SIGNED, Way.RESOLVED]


def counted(request: ComplianceRequest) -> dict[Assurance, int] | None:
    request.refresh_from_db()
    assert request.status == "completed"
    return assurance_of(request)


@pytest.mark.parametrize("at_once", [True, False], ids=["one transaction", "chunks"])
def test_it_counts_all_and_erases_all(
    chatbot: Chatbot, drain: Drain, monkeypatch: pytest.MonkeyPatch, at_once: bool
) -> None:
    if not at_once:
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


def test_a_deletion_by_ids_counts_none(chatbot: Chatbot, drain: Drain) -> None:
    conversation = conversation_by(chatbot, {"42": Way.USER_CHANNEL})
    request = of_conversations(chatbot, str(conversation.external_id))
    drain()
    assert counted(request) is None


def test_it_is_unknown_before_the_mark_and_of_what_was_marked_before_it_was_counted(
    chatbot: Chatbot, drain: Drain
) -> None:
    conversation_of(chatbot, "42")
    request, nothing = deletion_of(chatbot, "42"), deletion_of(chatbot, "43")
    assert assurance_of(request) is None
    drain()
    assert counted(nothing) == {"user_channel": 0, "platform": 0, "verified": 0}
    ComplianceRequest.objects.update(assurance_platform=0)
    assert counted(request) is None


def test_a_deletion_that_has_failed_after_its_mark_keeps_its_counts(chatbot: Chatbot, drain: Drain) -> None:
    conversation_by(chatbot, {"42": Way.USER_CHANNEL})
    request = deletion_of(chatbot, "42")
    drain()
    assert isinstance(request.pk, UUID)
    ComplianceRequest.objects.filter(pk=request.pk).update(
        status="failed", failed_at=timezone.now(), error_code="x", completed_at=None, result=None
    )
    request.refresh_from_db()
    assert assurance_of(request) == {"user_channel": 1, "platform": 0, "verified": 0}


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
