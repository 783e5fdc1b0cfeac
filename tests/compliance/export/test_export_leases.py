"""The lease of a large export while its worker waits for the first row."""

from typing import Any

import psycopg
import pytest

from chatbots.models import Chatbot
from common import leases
from common.storage import ObjectStorage
from compliance.errors import ClaimLost
from compliance.work.claims import HeldClaim
from conversations import snapshots
from tests.compliance.exporting import COMPLETED, carry_out, committed, is_empty, outcome, taken
from tests.factories import conversation_of, export_of
from tests.slow_reading import locked, waits

pytestmark = committed


@pytest.fixture(params=["storage", "clients"])
def bucket(request: pytest.FixtureRequest) -> ObjectStorage:
    """The storage of the export: the operator's bucket or a client's."""
    found: ObjectStorage = request.getfixturevalue(request.param)
    return found


@pytest.fixture
def held(chatbot: Chatbot, bucket: ObjectStorage, monkeypatch: pytest.MonkeyPatch) -> HeldClaim:
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


def test_a_worker_that_loses_its_lease_stops_reading_at_once(bucket: ObjectStorage, held: HeldClaim) -> None:
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
    assert is_empty(bucket)
