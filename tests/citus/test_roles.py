"""Web server and workers on a distributed database, each under its database role."""

import pytest
from django.utils import timezone

from common.storage import ObjectStorage
from compliance import worker
from compliance.models import ComplianceRequest
from conversations.models import Conversation, IdentityLookup, Message
from tests import factories
from tests.calls import SigningCaller, TokenCaller
from tests.citus.conftest import Distribute
from tests.conversations.documents import document
from tests.looking_up import SESSION, with_resolver

pytestmark = pytest.mark.citus

CHATTER = {"unique_chatter_identifier_key": "member_id"}


def test_intake_filing_and_work_need_no_further_rights(distribute: Distribute, storage: ObjectStorage) -> None:
    distribute("--yes", "--shards", "8")
    chatbot = factories.ready_chatbot(slug="acme")
    backend, crm = TokenCaller(chatbot), SigningCaller(chatbot)

    for member in ("41", "42", "43"):
        sent = document(f"c-{member}", custom_variables={"member_id": member})
        assert backend.post("conversations", sent).status_code == 200
    with_resolver(chatbot, "http://127.0.0.1:9/")
    unnamed = document("c-44", custom_variables={}, user_channel_variables={SESSION: "token"})
    unnamed["started_at"] = timezone.now().isoformat()
    assert backend.post("conversations", unnamed).status_code == 200
    assert IdentityLookup.objects.filter(chatbot=chatbot).count() == 1
    redacted = Conversation.objects.get(chatbot=chatbot, external_id="c-43")
    messages = list(
        Message.objects.filter(chatbot=chatbot, conversation=redacted).values_list("external_id", flat=True)
    )
    filed = [
        crm.post("data-export", CHATTER | {"unique_chatter_identifier_value": "41"}),
        crm.post("data-deletion", CHATTER | {"unique_chatter_identifier_value": "42"}),
        backend.post(f"conversations/{redacted.pk}/messages/redact", {"ids": messages[:1], "reason": "payment_data"}),
    ]
    assert [answer.status_code for answer in filed] == [200] * 3
    assert not worker.drain(seconds=60)

    assert set(ComplianceRequest.objects.values_list("kind", "status")) == {
        ("export", "completed"),
        ("deletion", "completed"),
        ("redaction", "completed"),
    }
