"""Exports by conversation into a client's own bucket: a deletion keeps and names them."""

from datetime import timedelta

import pytest
from django.utils import timezone
from pytest_django import Settings

from chatbots.models import Chatbot
from common.storage import ObjectStorage
from compliance import worker
from compliance.api.representation import represent
from compliance.erasure import verify
from compliance.models import ComplianceRequest
from tests.clients import PREFIX
from tests.compliance.conftest import Drain
from tests.compliance.exporting import COMPLETED, carry_out, export_of_request, outcome, taken
from tests.factories import conversation_of, deletion_of, of_conversations

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.mark.long(reason="the same by the other selector", beyond=1)
@pytest.mark.parametrize("selector", ["uci", "ids"])
def test_a_deletion_names_and_keeps_a_client_export_by_ids(
    chatbot: Chatbot, clients: ObjectStorage, drain: Drain, settings: Settings, selector: str
) -> None:
    conversation_of(chatbot, "42", external_id="c-42")
    request = of_conversations(chatbot, "c-42", kind="export")
    carry_out(taken(request))
    assert outcome(request) == COMPLETED
    export = export_of_request(request)
    assert export.key is not None
    assert export.key.startswith(f"{PREFIX}chatter_data_exports/!conversations/")
    how = {"erase_exports": True}
    deletion = deletion_of(chatbot, "42", **how) if selector == "uci" else of_conversations(chatbot, "c-42", **how)

    drain()

    assert outcome(deletion) == COMPLETED
    kept = represent(deletion, status_url="", shows_key=True)["kept_exports"]
    assert [(one["request_id"], one["hosting"]) for one in kept] == [(str(request.pk), "client")]
    assert clients.exists(export.key)
    assert verify.audit([deletion.pk]).left == {}
    # No other deletion can find it, so the digests of the ids need not be kept with it.
    late = timezone.now() - settings.ERASURE_LEDGER_DAYS - timedelta(seconds=1)
    ComplianceRequest.objects.update(completed_at=late)
    worker.sweep()
    request.refresh_from_db()
    assert (request.conversation_digests, clients.exists(export.key)) == (None, True)
