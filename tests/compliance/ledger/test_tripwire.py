"""The ledger has objects that the database does not know, or lacks some that it does: what is made of that."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from uuid_utils.compat import uuid7

from chatbots.buckets import hosted_storage, silence
from chatbots.models import SilentStorage
from common.storage import ObjectStorage
from compliance import worker
from compliance.ledger import content, objects, service, tripwire
from compliance.models import LedgerObject, Occurrence, Service
from compliance.replay import loading
from tests.factories import deletion_of
from tests.ledger import LINE, header, noted, put, recovered, state
from tests.patches import before, failing


def foreign() -> int:
    return noted(Occurrence.Name.LEDGER_FOREIGN)


def test_a_known_ledger_trips_nothing(ours: Service, storage: ObjectStorage) -> None:
    recovered()
    put(storage, header(ours), is_known=True)
    assert state() == "open"
    assert foreign() == 0
    row = service.current()
    assert row.timeline == service.database_position().timeline
    assert row.checked_at is not None


@pytest.mark.parametrize(
    ("ages", "expected"),
    [
        ([180, 0], "restored"),
        # All that were lost are young by their own clock, or by one that jumped back.
        ([40, 0], "catching_up"),
        ([40, -120], "restored"),
    ],
)
def test_an_unknown_authentic_object_trips_and_a_young_one_has_it_catch_up(ours, storage, ages, expected) -> None:
    for minutes in ages:
        put(storage, header(ours, age=timedelta(minutes=minutes)))
    recovered()
    assert state() == expected
    row = service.current()
    assert (row.reason, row.timeline) == ("objects_unknown", 77)
    assert foreign() == 0


def test_an_object_from_before_the_server_was_up_trips_on_the_same_timeline(ours, storage) -> None:
    """As after a copy of the disk was put back."""
    put(storage, header(ours, age=timedelta(hours=30)))
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_postmaster_start_time() > now() - interval '30 hours'")
        if not cursor.fetchone()[0]:
            pytest.skip("this server has been up for longer")
    assert state() == "restored"


def test_a_young_one_on_another_server_is_a_restore(ours: Service, storage: ObjectStorage) -> None:
    put(storage, header(ours))
    recovered()
    Service.objects.update(server="another/1/1")
    assert state() == "restored"


def planted(ours: Service) -> dict[str, tuple[str, bytes]]:
    """Return a key and an object of each kind that this life of the database has not written."""
    heads = {
        "forged": header(ours),
        "of another service": header(ours, service_id=uuid7()),
        "expired": header(ours, at=datetime(2020, 1, 1, tzinfo=UTC)),
        "of another life": header(ours, incarnation=uuid7()),
        "huge": header(ours),
    }
    made = {name: (head.key, content.seal(head, [LINE])) for name, head in heads.items()}
    huge = content.seal(heads["huge"], [LINE | {"more": "x" * (8 * 1024 * 1024)}])
    return made | {
        "forged": (heads["forged"].key, made["forged"][1].replace(b"cancelled", b"rejected!")),
        "huge": (heads["huge"].key, huge),
        "nonsense": (header(ours).key, b"\xff{" * 100),
        "empty": (f"{objects.PREFIX}{ours.service_id}/what is this", b""),
    }


def test_what_it_did_not_write_in_this_life_trips_nothing(ours, storage, caplog) -> None:
    for number, (name, (key, sealed)) in enumerate(planted(ours).items(), start=1):
        recovered()
        storage.put(key, sealed, content_type=objects.CONTENT_TYPE)
        assert state() == "open", name
        assert foreign() == number, name
        storage.purge(key)
    assert "ledger.foreign" in caplog.text
    assert str(ours.service_id) not in caplog.text


def test_an_object_that_was_put_back_after_its_days_is_not_listed(storage: ObjectStorage) -> None:
    put(storage, header(service.current(), age=timedelta(days=200)))
    recovered()
    assert not LedgerObject.objects.exists()
    assert (state(), foreign()) == ("open", 0)


def test_the_folder_of_another_service_is_not_even_read(ours: Service, storage: ObjectStorage) -> None:
    recovered()
    other = Service(service_id=uuid7(), incarnation=ours.incarnation)
    put(storage, header(other))
    assert state() == "open"
    assert foreign() == 0


def test_a_copy_that_writes_under_our_name_trips_nothing_here(ours, storage, monkeypatch) -> None:
    with monkeypatch.context() as patch:
        # As if this server had been up for a day.
        patch.setattr(tripwire._Snapshot, "up_since", timezone.now() - timedelta(days=1))
        put(storage, header(ours))
        assert state() == "open"
        assert foreign() == 1

    # Once it is started anew, nothing would tell them apart.
    put(storage, header(ours, age=timedelta(minutes=1)), is_known=True)
    assert state() == "open"
    assert foreign() == 1
    recovered()
    assert state() == "open"


def test_an_object_from_the_future_is_one_that_was_lost(ours, storage, monkeypatch) -> None:
    """The clock of the server that the backup was restored on is behind: it seems to have been up before."""
    monkeypatch.setattr(tripwire._Snapshot, "up_since", timezone.now() - timedelta(days=1))
    put(storage, header(ours, age=-timedelta(hours=6)))
    assert state() == "restored"


def test_a_clock_that_jumps_back_trips_nothing_and_keeps_the_order(ours: Service, storage: ObjectStorage) -> None:
    ahead = put(storage, header(ours, age=-timedelta(hours=5)), is_known=True)
    Service.objects.update(checked_at=timezone.now() + timedelta(hours=5))
    recovered()
    objects.write([LINE], request_ids=[]).confirm()
    objects.write([LINE], request_ids=[]).confirm()
    rows = list(LedgerObject.objects.order_by("pk").values_list("key", flat=True))
    assert rows[1] == ahead
    assert [key[:-42] for key in rows] == sorted(key[:-42] for key in rows)
    assert tripwire.check_if_due()
    assert (state(), foreign()) == ("open", 0)
    assert noted(Occurrence.Name.LEDGER_MISSING) == 0


def test_a_worker_that_was_killed_before_or_after_its_object_trips_nothing(ours, storage) -> None:
    objects._begin([], [])
    recovered()
    assert state() == "open"
    objects.write([LINE], request_ids=[])  # and was killed before it was confirmed
    recovered()
    assert state() == "open"
    assert foreign() == noted(Occurrence.Name.LEDGER_MISSING) == 0


def test_a_planted_key_that_no_row_can_have_stops_nothing(ours, storage, monkeypatch) -> None:
    """Some storages take a NUL."""
    keys = ObjectStorage.keys
    planted = f"{header(ours).key}\0"
    monkeypatch.setattr(ObjectStorage, "keys", lambda *a, **k: iter([*keys(*a, **k), planted]))
    recovered()
    assert state() == "open"
    assert not list(loading.keys())


def test_a_storage_that_does_not_answer_trips_nothing(ours, storage, monkeypatch, caplog) -> None:
    Service.objects.update(checked_at=None)
    monkeypatch.setattr(ObjectStorage, "keys", failing())
    assert tripwire.check_if_due()
    assert service.state() == "open"
    assert "ledger.not_compared code=storage_unavailable" in caplog.text
    assert service.current().checked_at is None
    # Not after a failover or a recovery: the lost data is unknown.
    recovered()
    assert not tripwire.check_if_due()
    assert service.is_open()


@pytest.mark.parametrize("turn", [worker.drain, worker.sweep])
def test_a_process_that_let_another_try_asks_how_that_went(ours, storage, caplog, turn) -> None:
    Service.objects.update(checked_at=None)
    SilentStorage.objects.create(rests_until=timezone.now())
    silence.share_hosted()
    silence.record_hosted()
    SilentStorage.objects.all().delete()  # another process has tried, and had an answer
    turn()
    assert "ledger.not_compared" not in caplog.text
    assert service.current().checked_at is not None


def test_after_the_server_was_started_nothing_is_done_before_the_storage_answers(ours, storage, monkeypatch) -> None:
    """A copy of its disk can have been put back, on the same timeline: even one of a moment ago."""
    with connection.cursor() as cursor:
        cursor.execute("UPDATE compliance_service SET checked_at = pg_postmaster_start_time() - interval '1 second'")
    with monkeypatch.context() as patched:
        patched.setattr(ObjectStorage, "keys", failing())
        for _ in range(2):
            assert not tripwire.check_if_due()
            assert service.is_open()

    monkeypatch.setattr(tripwire, "_looks_again_at", 0.0)
    assert tripwire.check_if_due()
    monkeypatch.setattr(ObjectStorage, "keys", failing())
    assert tripwire.check_if_due()


def test_a_look_that_slept_through_a_replay_closes_nothing(ours, storage, monkeypatch) -> None:
    put(storage, header(ours, age=timedelta(hours=3)))
    recovered()

    def sleep(key: str, **values: Any) -> None:
        service.trip(service.State.RESTORED, service.Reason.OBJECTS_UNKNOWN)
        service.begin_incarnation()

    before(monkeypatch, objects, "read", sleep)
    assert state() == "open"


def test_it_looks_once_a_minute(ours: Service, storage: ObjectStorage) -> None:
    put(storage, header(ours, incarnation=uuid7()))  # noted each time
    tripwire.check()
    for _ in range(3):
        assert tripwire.check_if_due()
    assert foreign() == 1
    Service.objects.update(checked_at=timezone.now() - timedelta(seconds=61))
    assert tripwire.check_if_due()
    assert foreign() == 2


def test_a_worker_looks_before_its_first_claim(ours, chatbot, storage, drain) -> None:
    put(storage, header(ours, age=timedelta(hours=3)))
    recovered()
    request = deletion_of(chatbot, "member-1")
    drain()
    request.refresh_from_db()
    assert request.status == "accepted"
    assert service.state() == "restored"


def test_a_look_costs_a_listing_and_one_statement(ours: Service, storage: ObjectStorage) -> None:
    tripwire.check()
    with CaptureQueriesContext(connection) as queries:
        tripwire.check_if_due()
    assert len(queries) == 1  # whether it is due
    calls: list[str] = []
    client = hosted_storage().client
    client.meta.events.register("before-call.s3", lambda model, **_: calls.append(model.name))
    with CaptureQueriesContext(connection) as queries:
        tripwire.check()
    assert len(queries) == 2
    assert calls == ["ListObjectsV2"]
