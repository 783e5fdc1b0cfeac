"""Extract files that a deletion does not rebuild, and the deletions that a built day releases."""

from datetime import timedelta

import psycopg
import pytest
from django.db import connection
from django.utils import timezone

from chatbots.buckets import StorageLocation
from chatbots.models import Bucket, Chatbot
from common.storage import ObjectStorage
from compliance import worker
from compliance.erasure import engine, extracts
from compliance.models import ComplianceRequest
from compliance.work import claims
from compliance.work.sizes import measure
from conversations.extracts import builder, days, leases
from conversations.models import DailyExtract
from tests.calls import TokenCaller
from tests.extracting import (
    FIRST,
    conversation_on,
    day_after,
    extract_of,
    make_all,
    make_next,
    noon,
    planned,
    texts,
    two_days,
    two_days_made,
    work_on_next,
)
from tests.factories import deletion_of, export_of
from tests.patches import failing

pytestmark = pytest.mark.django_db(transaction=True)

HOUR = timedelta(hours=1)


@pytest.fixture
def clients_bucket(chatbot: Chatbot, storage: ObjectStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Treat built files as files in a client's bucket, here the same storage."""
    Bucket.objects.filter(chatbot=chatbot).update(
        hosting="client", bucket="clients-bucket", region="us-east-1", access_key_id="key", secret_encrypted="unused"
    )
    place = StorageLocation(Bucket.Hosting.CLIENT, "clients-bucket", "chat/", storage)
    monkeypatch.setattr(builder, "location_of", lambda _bucket: place)


@pytest.mark.usefixtures("clients_bucket")
def test_a_file_in_the_clients_bucket_is_kept_and_named(chatbot: Chatbot, storage: ObjectStorage) -> None:
    two_days_made(chatbot)
    first, second = extract_of(chatbot), extract_of(chatbot, day_after(FIRST))
    assert first.key == f"chat/daily_conversations_extracts/{FIRST}_conversations_extract.csv"
    assert (first.hosting, first.bucket, first.expires_at) == ("client", "clients-bucket", None)
    request = deletion_of(chatbot, "alice")
    assert not worker.drain()

    found = TokenCaller(chatbot).get(f"requests/{request.pk}").json()
    assert (found["status"], found["counts"]["extracts"], found["progress"]["extracts_total"]) == ("completed", 0, 0)
    assert found["delivered_extracts"] == [
        {
            "day": extract.day.isoformat(),
            "finished_at": extract.finished_at.strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
            "sha256": extract.sha256,
        }
        for extract in (first, second)
        if extract.finished_at
    ]
    assert "words of alice" in texts(storage, chatbot)
    assert set(DailyExtract.objects.values_list("state", flat=True)) == {"done"}


@pytest.mark.usefixtures("clients_bucket")
def test_a_day_delivered_to_the_client_after_the_deletion_is_not_named(chatbot: Chatbot) -> None:
    two_days(chatbot)
    planned(chatbot, FIRST, day_after(FIRST))
    assert make_next()
    late = DailyExtract.objects.get(state="pending")
    # As if the worker was killed before it delivered the file.
    DailyExtract.objects.filter(pk=late.pk).update(key="chat/late.csv", hosting="client", bucket="clients-bucket")
    days = {FIRST, day_after(FIRST)} - {late.day}

    for _ in ("before", "after"):
        request = deletion_of(chatbot, "alice")
        work_on_next()
        found = TokenCaller(chatbot).get(f"requests/{request.pk}").json()
        assert found["status"] == "completed"
        assert [each["day"] for each in found["delivered_extracts"]] == [day.isoformat() for day in days]
        make_all()
    late.refresh_from_db()
    assert (late.state, late.made_version) == ("done", 2)


def test_a_day_whose_hosted_file_has_expired_is_not_named_before_it_is_delivered(
    chatbot: Chatbot, storage: ObjectStorage, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    conversation_on(chatbot, "alice", noon())
    planned(chatbot)
    make_all()
    DailyExtract.objects.update(expires_at=timezone.now() - HOUR)
    worker.sweep()
    request.getfixturevalue("clients_bucket")
    days.order(chatbot_id=chatbot.pk, days=[FIRST], states=[DailyExtract.State.EXPIRED], actor="command")
    with monkeypatch.context() as patch:
        patch.setattr(ObjectStorage, "open_upload", failing())
        assert make_next()
    first = extract_of(chatbot)
    assert (first.state, first.hosting, first.error_code) == ("pending", "client", "storage_unavailable")

    deletion = deletion_of(chatbot, "alice")
    assert not worker.drain()
    found = TokenCaller(chatbot).get(f"requests/{deletion.pk}").json()
    assert (found["status"], found["delivered_extracts"]) == ("completed", [])


@pytest.mark.parametrize("moves_to", ["", "another-bucket", "hosted"])
@pytest.mark.usefixtures("clients_bucket")
def test_a_file_whose_answer_was_lost_is_named_wherever_the_day_goes_next(
    chatbot: Chatbot, storage: ObjectStorage, monkeypatch: pytest.MonkeyPatch, moves_to: str
) -> None:
    """The client's storage has published it, and the service does not know."""
    conversation_on(chatbot, "alice", noon(), text="words of alice")
    planned(chatbot)
    with monkeypatch.context() as patch:
        patch.setattr(leases, "finish", failing())
        assert make_next()
    assert "words of alice" in texts(storage, chatbot)
    if moves_to:
        hosting = Bucket.Hosting.HOSTED if moves_to == "hosted" else Bucket.Hosting.CLIENT
        place = StorageLocation(hosting, moves_to, f"{moves_to}/", storage)
        monkeypatch.setattr(builder, "location_of", lambda _bucket: place)
        with monkeypatch.context() as patch:
            patch.setattr(ObjectStorage, "open_upload", failing())
            extracts.build(leases.take_one(extract_of(chatbot).pk))
    lost = [{"day": FIRST.isoformat(), "finished_at": None, "sha256": None}]
    for named in (lost, lost if moves_to else []):
        deletion = deletion_of(chatbot, "alice")
        work_on_next()
        if moves_to == "hosted":  # the deletion waits for the day
            DailyExtract.objects.update(next_attempt_at=timezone.now())
            make_all()
            ComplianceRequest.objects.update(not_before=None)
            assert not worker.drain()
        found = TokenCaller(chatbot).get(f"requests/{deletion.pk}").json()
        assert (found["status"], found["delivered_extracts"]) == ("completed", named)
        DailyExtract.objects.update(next_attempt_at=timezone.now())
        make_all()


def test_hosted_files_expire(chatbot: Chatbot, neighbour: Chatbot, storage: ObjectStorage) -> None:
    for owner in (chatbot, neighbour):
        two_days_made(owner)
    first = extract_of(chatbot)
    DailyExtract.objects.filter(pk=first.pk).update(expires_at=timezone.now() - HOUR)
    worker.sweep()
    expired = extract_of(chatbot)
    assert (expired.state, expired.key, expired.rows) == ("expired", None, 2)
    assert not storage.exists(str(first.key))
    assert len(list(storage.keys())) == 3
    # Nothing is left to rebuild.
    request = deletion_of(chatbot, "bob")
    assert not worker.drain()
    request.refresh_from_db()
    assert (request.status, request.extracts) == ("completed", 0)


def test_an_expired_file_waiting_for_a_rebuild_is_removed(chatbot: Chatbot, storage: ObjectStorage) -> None:
    two_days_made(chatbot)
    deletion_of(chatbot, "bob")
    work_on_next()
    DailyExtract.objects.update(expires_at=timezone.now() - HOUR)
    assert make_all() == 0
    worker.sweep()
    ComplianceRequest.objects.update(not_before=None)
    assert not worker.drain()
    assert ComplianceRequest.objects.get().status == "completed"
    assert list(storage.keys("acme/daily")) == []


def test_an_expired_file_is_not_named_beside_an_export_that_is(chatbot: Chatbot, storage: ObjectStorage) -> None:
    two_days_made(chatbot)
    export_of(chatbot, "bob")
    assert not worker.drain()
    request = deletion_of(chatbot, "bob")
    work_on_next()
    DailyExtract.objects.update(expires_at=timezone.now() - HOUR)
    worker.sweep()
    ComplianceRequest.objects.update(not_before=None)
    assert not worker.drain()

    found = TokenCaller(chatbot).get(f"requests/{request.pk}").json()
    assert (found["status"], len(found["kept_exports"]), found["delivered_extracts"]) == ("completed", 1, [])


def test_locked_requests_are_skipped(chatbot: Chatbot, storage: ObjectStorage) -> None:
    members = ["alice", "bob"]
    for member in members:
        conversation_on(chatbot, member, noon())
    planned(chatbot)
    make_all()
    locked, free = (deletion_of(chatbot, member) for member in members)
    held = claims.take(ComplianceRequest.Kind.DELETION)
    assert held
    engine.run(held, measure(held), deadline=float("inf"))
    assert ComplianceRequest.objects.filter(not_before__isnull=False).count() == 2

    params = connection.get_connection_params() | {"cursor_factory": psycopg.Cursor}
    with psycopg.connect(**params) as other, connection.cursor() as cursor:
        other.execute("SELECT FROM compliance_compliancerequest WHERE id = %s FOR UPDATE", [locked.pk])
        cursor.execute("SET statement_timeout = '5s'")
        try:
            assert extracts.build_next(settled=False)
        finally:
            cursor.execute("RESET statement_timeout")
    locked.refresh_from_db()
    free.refresh_from_db()
    assert (locked.not_before is None, free.not_before is None) == (False, True)


def test_requests_that_wait_for_other_reasons_are_not_released(chatbot: Chatbot, storage: ObjectStorage) -> None:
    """During its grace a deletion can be cancelled."""
    later = timezone.now() + timedelta(minutes=15)
    deletion = deletion_of(chatbot, "alice", not_before=later)
    planned(chatbot)
    assert make_all() == 1
    deletion.refresh_from_db()
    assert deletion.not_before == later
