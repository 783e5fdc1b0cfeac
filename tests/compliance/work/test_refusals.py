"""A database that refuses work for now: requests wait without losing an attempt, and health reports it."""

from collections.abc import Iterator
from datetime import timedelta

import pytest
from django.db import connection
from django.utils import timezone
from psycopg import OperationalError, errors

from chatbots.models import BucketCheck, ChangeLogEntry, Chatbot
from common.database_errors import was_refused_temporarily
from common.db import execute
from common.storage import ObjectStorage
from compliance import tasks, worker
from compliance.cluster import occurrences
from compliance.cluster.background import BackgroundJobs
from compliance.models import Claim, ComplianceRequest
from compliance.work import bucket_checks, claims, health
from conversations.models import DailyExtract
from tests.commands import report
from tests.extracting import conversation_on, extract_of, noon, planned
from tests.factories import conversation_of, deletion_of, export_of

Status = ComplianceRequest.Status

pytestmark = pytest.mark.django_db(transaction=True)

_FULL = """
CREATE FUNCTION have_no_room() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN RAISE EXCEPTION USING ERRCODE = 'disk_full', MESSAGE = 'could not extend file'; END $$;
CREATE TRIGGER full_disk BEFORE {what} FOR EACH STATEMENT EXECUTE FUNCTION have_no_room()
"""
_MENDED = "DROP FUNCTION IF EXISTS have_no_room() CASCADE"


@pytest.fixture(autouse=True)
def _work_goes_on() -> Iterator[None]:
    yield
    occurrences._REFUSED.reset()


@pytest.fixture
def full_disk() -> Iterator[None]:
    """A database that refuses to delete messages, as if it had no room."""
    execute(_FULL.format(what="DELETE ON conversations_message"))
    yield
    execute(_MENDED)


@pytest.fixture
def unreachable(monkeypatch: pytest.MonkeyPatch) -> None:
    """No further connection can be made, as where PostgreSQL has too many. The tests' own goes on."""
    connection.ensure_connection()
    monkeypatch.setitem(connection.settings_dict, "PORT", "1")


def drain_after_the_rest() -> None:
    occurrences._REFUSED.reset()
    ComplianceRequest.objects.update(not_before=None)
    worker.drain(seconds=30)


def states() -> set[tuple[str, int, str]]:
    return set(ComplianceRequest.objects.values_list("status", "attempts", "error_code"))


@pytest.mark.parametrize(
    ("error", "is_refusal"),
    [
        (errors.DiskFull(), True),
        (errors.TooManyConnections(), True),
        (errors.ConnectionTimeout(), True),
        # A connection that was lost, and a statement that may need too much.
        (OperationalError(), False),
        (errors.OutOfMemory(), False),
    ],
)
def test_what_is_refused_whatever_was_asked(error: OperationalError, is_refusal: bool) -> None:
    assert was_refused_temporarily(error) == is_refusal


@pytest.mark.one_postgresql(reason="a trigger of the test on messages")
def test_requests_wait_for_a_full_disk_without_losing_an_attempt(chatbot, storage, full_disk) -> None:
    for value in ("42", "43"):
        conversation_of(chatbot, value)
        deletion_of(chatbot, value)
    for _ in range(claims.MAX_ATTEMPTS + 1):
        drain_after_the_rest()

    assert states() == {(Status.ACCEPTED, 0, "database_refused")}
    detail = ComplianceRequest.objects.values_list("error_detail", flat=True).distinct().get()
    assert detail == "The database refused the work for now: SQLSTATE 53100."
    # Either may be why the other was refused.
    assert set(ComplianceRequest.objects.values_list("lane", flat=True)) == {"isolated"}
    logged = ChangeLogEntry.objects.filter(event="request.requeued").values_list("data", flat=True)
    assert list(logged) == [{"code": "database_refused", "attempts": 0}] * 2

    execute(_MENDED)
    drain_after_the_rest()
    assert states() == {(Status.COMPLETED, 0, "")}


@pytest.mark.one_postgresql(reason="a trigger of the test on messages")
def test_a_request_that_is_refused_again_waits_longer(chatbot, storage, full_disk) -> None:
    conversation_of(chatbot, "42")
    request = deletion_of(chatbot, "42")
    waits = []
    for _ in range(3):
        drain_after_the_rest()
        request.refresh_from_db()
        waits.append(request.not_before - timezone.now())
    assert waits[0] <= timedelta(seconds=5)
    assert all(timedelta(minutes=1) < wait <= timedelta(minutes=2) for wait in waits[1:])


@pytest.mark.one_postgresql(reason="a trigger of the test on messages")
def test_a_worker_takes_nothing_for_a_moment_and_health_reports_it(chatbot, storage, full_disk) -> None:
    conversation_of(chatbot, "42")
    deletion_of(chatbot, "42")
    of_the_same_round = deletion_of(chatbot, "43", lane="isolated")
    assert not worker.drain(seconds=30)
    unmet = deletion_of(chatbot, "44")
    assert not worker.drain(seconds=30)

    others = ComplianceRequest.objects.filter(pk__in=[of_the_same_round.pk, unmet.pk])
    assert set(others.values_list("status", "started_at")) == {(Status.ACCEPTED, None)}
    assert "database_refused" in [problem.code for problem in health.check().problems]
    occurrences._REFUSED.reset()
    worker.drain(seconds=30)
    assert set(others.values_list("status", flat=True)) == {Status.COMPLETED}


def test_a_task_that_can_claim_nothing_rests_and_has_not_failed(chatbot: Chatbot) -> None:
    """A failed task would be stored, with its log: on a full disk both make it worse."""
    request = deletion_of(chatbot, "42")
    execute(_FULL.format(what="INSERT ON compliance_claim"))
    try:
        tasks.drain()
    finally:
        execute(_MENDED)
    request.refresh_from_db()
    assert (request.status, request.attempts, occurrences.is_resting()) == (Status.ACCEPTED, 0, True)


@pytest.mark.one_postgresql(reason="a trigger of the test on messages")
def test_the_command_says_that_something_is_left(chatbot: Chatbot, storage: ObjectStorage, full_disk: None) -> None:
    conversation_of(chatbot, "42")
    deletion_of(chatbot, "42")
    said = report("process_requests", code=3)
    assert (said["time_over"], said["database_refused"]) == (False, True)


def test_exports_wait_for_a_connection(chatbot, storage, unreachable, caplog) -> None:
    for value in ("42", "43"):
        conversation_of(chatbot, value)
        export_of(chatbot, value)
    for _ in range(2):
        drain_after_the_rest()
    assert states() == {(Status.ACCEPTED, 0, "database_refused")}
    assert "claim.refused" in caplog.text


def test_a_day_waits_for_a_connection(chatbot, storage, unreachable, caplog) -> None:
    conversation_on(chatbot, "alice", noon())
    planned(chatbot)
    worker.drain(seconds=30)
    extract = extract_of(chatbot)
    assert (extract.state, extract.attempts, extract.error_code) == ("pending", 0, "database_refused")
    assert "extract.refused" in caplog.text
    assert "database_refused" in [problem.code for problem in health.check().problems]


@pytest.mark.parametrize("what", ["export", "day", "check"])
def test_work_at_a_clients_bucket_waits_for_a_connection_of_its_thread(chatbot, clients, unreachable, caplog, what):
    if what == "export":
        export_of(chatbot, "42")
    elif what == "day":
        planned(chatbot)
    else:
        bucket_checks.enqueue(chatbot=chatbot)
    background = BackgroundJobs(lambda: None)

    worker.drain(seconds=30, background=background)

    assert not background.busy
    assert occurrences.is_resting()
    assert "job.refused" in caplog.text
    assert not Claim.objects.exists()
    assert not DailyExtract.objects.filter(token__isnull=False).exists()
    assert not BucketCheck.objects.filter(token__isnull=False).exists()
    assert states() <= {(Status.ACCEPTED, 0, "")}
    assert "database_refused" in [problem.code for problem in health.check().problems]
