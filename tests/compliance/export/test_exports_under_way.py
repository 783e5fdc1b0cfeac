"""Exports under way: the lease while a worker waits for the first row, and a deletion that comes before the files."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

import psycopg
import pytest

from chatbots.models import Chatbot
from common import leases
from common.storage import ObjectStorage
from compliance import worker
from compliance.erasure import objects
from compliance.errors import ClaimLost
from compliance.models import ComplianceRequest, ExportFile
from compliance.requests import decisions
from compliance.work.claims import HeldClaim
from conversations import snapshots, uploads
from tests.compliance.export.test_export_files import exports_in, given_up, stored
from tests.compliance.exporting import COMPLETED, carry_out, committed, is_empty, open_uploads, outcome, taken
from tests.factories import conversation_of, export_of, of_conversations
from tests.functional.refusing import in_the_gap
from tests.patches import before
from tests.slow_reading import locked, waits
from tests.under_roles import role

pytestmark = committed


@pytest.fixture
def held(chatbot: Chatbot, storage: ObjectStorage, monkeypatch: pytest.MonkeyPatch) -> HeldClaim:
    """A large export, claimed by a worker that renews its lease often."""
    monkeypatch.setattr(leases, "SECONDS_BETWEEN_RENEWALS", 0)
    monkeypatch.setattr(snapshots, "SECONDS_BETWEEN_CALLS", 0.05)
    conversation_of(chatbot, "42")
    return taken(export_of(chatbot, "42", lane="large"))


def test_a_lease_is_renewed_while_waiting_for_the_first_row(chatbot: Chatbot, held: HeldClaim) -> None:
    ends = set[Any]()

    def is_renewed(asking: psycopg.Connection[Any]) -> bool:
        if waits(asking):
            ends.add(asking.execute("SELECT expires_at FROM compliance_claim").fetchone())
        return len(ends) > 2

    with locked("chatbots_variable", until=is_renewed) as renewed:
        carry_out(held)
    assert renewed == [True]
    assert outcome(chatbot.requests.get()) == COMPLETED


def test_a_worker_that_loses_its_lease_stops_reading_at_once(storage: ObjectStorage, held: HeldClaim) -> None:
    was_taken = False

    def has_stopped(asking: psycopg.Connection[Any]) -> bool:
        nonlocal was_taken
        if waits(asking) and not was_taken:
            asking.execute("UPDATE compliance_compliancerequest SET claim_id = NULL")
            asking.execute("DELETE FROM compliance_claim")
            was_taken = True
        return was_taken and not waits(asking)

    with locked("chatbots_variable", until=has_stopped) as stopped, pytest.raises(ClaimLost):
        carry_out(held)
    assert stopped == [True]
    assert is_empty(storage)


def test_no_copy_is_sent_after_the_deletion_has_passed(chatbot, storage, monkeypatch) -> None:
    """It removes the export's files so far and completes, right before the upload of a copy is opened."""
    stays = conversation_of(chatbot, "42")
    file = uploads.receive(conversation=stays, name="photo.jpg", content_type="image/jpeg", chunks=[b"content"])
    goes = conversation_of(chatbot, "42")
    export = export_of(chatbot, "42", include_files=True)
    deletion = of_conversations(chatbot, str(goes.external_id), approved_holds=["export_pending"])
    ComplianceRequest.objects.filter(pk=deletion.pk).update(seq=0)
    met = in_the_gap(monkeypatch, "open_upload", "_files/", "before", lambda: worker.drain(seconds=60))
    carry_out(taken(export))

    assert met
    assert outcome(deletion)[0] == "completed"
    keys = list(storage.keys())
    assert [key for key in keys if not key.startswith("erasure_ledger/")] == [file.object_key]
    assert open_uploads(storage) == []
    assert outcome(export)[0] != "completed"


def test_copies_of_an_export_cancelled_during_a_sweep_are_removed_by_the_next(chatbot, storage, monkeypatch) -> None:
    stored(conversation_of(chatbot, "42"), b"content")
    request = given_up(chatbot)

    @role("owner")
    def retry_then_erase(request_ids: Sequence[UUID]) -> None:
        decisions.retry(request_id=request.pk, actor="command")

    with monkeypatch.context() as patch:
        before(patch, objects, "erase_expired", retry_then_erase)
        worker.sweep()
    assert ExportFile.objects.exists()
    decisions.cancel(request_id=request.pk, actor="command")
    worker.sweep()
    assert exports_in(storage) == []
    assert not ExportFile.objects.exists()
