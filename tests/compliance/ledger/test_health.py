"""What `health` and the metrics say of a restored database and of its ledger."""

import json
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from django.db.models.functions import Now
from django.test import Client
from django.utils import timezone

from chatbots.models import Chatbot
from compliance.cluster import occurrences
from compliance.ledger import service
from compliance.ledger.service import Reason, State
from compliance.models import Heartbeat, JournalEntry, Occurrence, Service
from tests.commands import run
from tests.factories import deletion_of

pytestmark = pytest.mark.usefixtures("no_tasks")

MINUTE = timedelta(minutes=1)


@pytest.fixture(autouse=True)
def _is_well(db: None) -> None:
    """A cluster is alive, and compares the ledger."""
    occurrences.note(Occurrence.Name.SWEEP)
    service.current()
    Service.objects.update(checked_at=Now())
    beat = {"started_at": Now(), "seen_at": Now(), "worked_at": Now()}
    Heartbeat.objects.create(id=uuid4(), name="host:7", version="1", workers=2, **beat)


def problems() -> dict[str, str]:
    """Return the problems of `manage.py health`, with what it says."""
    code, out, _ = run("health", "--json")
    found = {one["code"]: one["detail"] for one in json.loads(out)["problems"]}
    assert code == bool(found)
    return found


def metric(name: str, settings: Any, **labels: str) -> float:
    settings.METRICS_TOKEN = "a-token-of-the-tests"
    text = Client(headers={"authorization": "Bearer a-token-of-the-tests"}).get("/metrics").content.decode()
    shown = ",".join(f'{label}="{value}"' for label, value in labels.items())
    series = f"{name}{{{shown}}} " if labels else f"{name} "
    [value] = [line.removeprefix(series) for line in text.splitlines() if line.startswith(series)]
    return float(value)


def test_a_restored_database_is_told_with_what_to_do(chatbot: Chatbot, settings: Any) -> None:
    assert problems() == {}
    assert metric("dca_service_state", settings, state="open") == 1
    deletion_of(chatbot, "member-1", queued_at=timezone.now() - 20 * MINUTE)
    JournalEntry.objects.update(at=timezone.now() - 20 * MINUTE)

    service.trip(State.RESTORED, Reason.OBJECTS_UNKNOWN)

    # Neither that work waits, which is on purpose.
    [(code, detail)] = problems().items()
    assert code == "restored_database"
    assert "replay_erasures" in detail
    assert "objects that this database does not know" in detail
    assert metric("dca_service_state", settings, state="restored") == 1
    assert metric("dca_service_state", settings, state="open") == 0
    assert metric("dca_ledger_journal_oldest_seconds", settings) == 0


def test_a_failover_is_told() -> None:
    service.trip(State.CATCHING_UP, Reason.OBJECTS_UNKNOWN)
    assert list(problems()) == ["catching_up"]


@pytest.mark.parametrize("name", ["ledger_missing", "ledger_foreign"])
def test_what_was_found_in_the_ledger_is_told_for_a_day(name: str, settings: Any) -> None:
    occurrences.note(Occurrence.Name(name))
    assert list(problems()) == [name]
    assert metric("dca_ledger_findings", settings, kind=name.removeprefix("ledger_")) == 1
    Occurrence.objects.filter(name=name).update(last_at=timezone.now() - timedelta(hours=25))
    assert problems() == {}


def test_missing_objects_are_told_until_they_are_written_again() -> None:
    Service.objects.update(mended_to=0)
    assert list(problems()) == ["ledger_missing"]


def test_a_journal_that_is_not_written_is_told_after_a_minute(chatbot: Chatbot, settings: Any) -> None:
    deletion_of(chatbot, "member-1")
    assert problems() == {}
    JournalEntry.objects.update(at=timezone.now() - 2 * MINUTE)
    assert list(problems()) == ["ledger_late"]
    assert 120 <= metric("dca_ledger_journal_oldest_seconds", settings) < 180


def test_a_ledger_that_nobody_compares_is_told(settings: Any) -> None:
    Service.objects.update(checked_at=timezone.now() - 11 * MINUTE)
    assert list(problems()) == ["ledger_not_compared"]
    assert 660 <= metric("dca_ledger_compared_age_seconds", settings) < 720
