"""Exports that hold a deletion by the other selector, and exports that do not."""

from uuid import uuid4

import pytest
from django.utils import timezone

from chatbots.models import Chatbot
from compliance.models import ComplianceRequest
from conversations.models import Message
from tests.compliance.conftest import Drain
from tests.compliance.erasure.test_two_selectors import FAILED, HELD, PAIRS, SELECTORS, about, state
from tests.factories import conversation_of, deletion_of, export_of, of_conversations

pytestmark = pytest.mark.django_db(transaction=True)


def test_an_export_without_its_conversations_does_not_hold_a_deletion(
    chatbot: Chatbot, neighbour: Chatbot, drain: Drain
) -> None:
    for one in (chatbot, neighbour):
        conversation_of(one, "42", "43", external_id="c-42")
    for owner, who, selector in (
        (neighbour, "42", "ids"),
        (neighbour, "42", "uci"),
        (chatbot, "44", "ids"),
        (chatbot, "44", "uci"),
        # It would leave the shared conversation out.
        (chatbot, "42", "uci"),
    ):
        about(owner, who, selector, "export", failed_at=timezone.now(), **FAILED)
    deletion = of_conversations(chatbot, "c-42")

    drain()
    assert state(deletion)[0] == "completed"
    assert Message.objects.filter(chatbot=neighbour).count() == 2


def test_a_later_export_does_not_hold_a_deletion(chatbot: Chatbot, drain: Drain) -> None:
    deletions = []
    for first, second in PAIRS:
        who = f"{first}-{second}"
        conversation_of(chatbot, who, external_id=f"c-{who}")
        deletions.append(about(chatbot, who, first, "deletion"))
        about(chatbot, who, second, "export", failed_at=timezone.now(), **FAILED)
    drain()
    assert {state(deletion)[0] for deletion in deletions} == {"completed"}


def test_an_export_of_conversations_already_marked_does_not_hold_a_deletion(chatbot: Chatbot, drain: Drain) -> None:
    deletions = []
    for first, second in (SELECTORS, reversed(SELECTORS)):
        conversation_of(chatbot, first, external_id=f"c-{first}", deletion_request_id=uuid4())
        about(chatbot, first, first, "export", failed_at=timezone.now(), **FAILED)
        deletions.append(about(chatbot, first, second, "deletion"))
    drain()
    assert {state(deletion)[0] for deletion in deletions} == {"completed"}


def test_a_given_up_export_does_not_hold_a_deletion_by_ids(chatbot: Chatbot, drain: Drain) -> None:
    conversation_of(chatbot, "42", external_id="c-42")
    export = export_of(chatbot, "42", failed_at=timezone.now(), **FAILED)
    ComplianceRequest.objects.filter(pk=export.pk).update(uci_value=None)
    deletion = of_conversations(chatbot, "c-42")
    drain()
    assert state(deletion)[0] == "completed"


def test_a_co_participants_export_does_not_hold_a_chatters_deletion(chatbot: Chatbot, drain: Drain) -> None:
    conversation_of(chatbot, "42", "43")
    export_of(chatbot, "43", include_shared=True, failed_at=timezone.now(), **FAILED)
    deletion = deletion_of(chatbot, "42")
    of_conversations(chatbot, "c-other")  # with one in the queue, both selectors are checked
    drain()
    assert state(deletion)[0] == "completed"


def test_an_export_with_shared_conversations_holds_the_deletion_of_one(chatbot: Chatbot, drain: Drain) -> None:
    conversation_of(chatbot, "42", "43", external_id="c-42")
    export_of(chatbot, "42", include_shared=True, failed_at=timezone.now(), **FAILED)
    deletion = of_conversations(chatbot, "c-42")
    drain()
    assert state(deletion) == HELD
