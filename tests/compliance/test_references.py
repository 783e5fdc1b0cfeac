"""A client's reference is kept, but not where it tells who was erased."""

import pytest

from chatbots.buckets import ObjectStorage
from chatbots.models import Chatbot
from compliance.models import ComplianceRequest
from tests.compliance.conftest import Drain
from tests.factories import conversation_of, deletion_of, export_of, of_conversations
from tests.functional.support import dump


def reference_of(request: ComplianceRequest) -> str:
    request.refresh_from_db()
    return request.reference


@pytest.mark.django_db(transaction=True)  # pg_dump sees what is committed
def test_after_a_deletion_no_reference_of_the_chatters_requests_holds_the_value(
    chatbot: Chatbot, drain: Drain, storage: ObjectStorage
) -> None:
    value = "Planted-\uff21da"  # the A is a wide one
    conversation_of(chatbot, value, external_id="c-1")
    conversation_of(chatbot, "bob", external_id="c-2")
    # As they were stored before such references were refused; one by ids cannot know who is in its conversations.
    told = [
        export_of(chatbot, value, reference="T-planted-ada"),
        of_conversations(chatbot, "c-1", kind="export", reference="PLANTED-ADA.2"),
    ]
    kept = [
        export_of(chatbot, value, reference="T-8"),
        of_conversations(chatbot, "c-1", kind="export", reference="T-9"),
        of_conversations(chatbot, "c-2", kind="export", reference="T-of-ada"),
    ]
    drain()
    deletion = deletion_of(chatbot, value, reference="planted-ada.3", erase_exports=True)
    drain()

    assert [reference_of(one) for one in (*told, deletion)] == ["", "", ""]
    assert [reference_of(one) for one in kept] == ["T-8", "T-9", "T-of-ada"]
    everything = dump().casefold()
    assert "planted-ada" not in everything
    assert value.casefold() not in everything
