"""Looks at the ledger that come late or take long: no restore goes unnoticed, and no worker is kept busy."""

from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from django.utils import timezone

from common.storage import ObjectStorage, StorageError
from compliance import worker
from compliance.cluster import occurrences
from compliance.ledger import content, objects, service, tripwire
from compliance.models import LedgerObject, Occurrence, Service
from tests.factories import conversation_of, deletion_of
from tests.ledger import LINE, header, noted, put, recovered
from tests.patches import before, failing

LOOK = Occurrence.Name.LEDGER_LOOK


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the keys that are read. Each takes a second of the look's time."""
    keys: list[str] = []
    monkeypatch.setattr(tripwire, "time", SimpleNamespace(monotonic=lambda: float(len(keys))))
    before(monkeypatch, objects, "read", lambda key, **__: keys.append(key))
    return keys


@pytest.fixture
def listings(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    prefixes: list[str] = []
    before(monkeypatch, objects, "keys", lambda folder, **__: prefixes.append(folder))
    return prefixes


@pytest.fixture
def _up_for_a_day(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing says that the database can have been restored since its last look."""
    monkeypatch.setattr(tripwire._Snapshot, "up_since", timezone.now() - timedelta(days=1))


def forge(storage: ObjectStorage, ours: Service, number: int) -> None:
    for place in range(number):
        head = header(ours, age=timedelta(seconds=300 - place))
        sealed = content.seal(head, [LINE]).replace(b"cancelled", b"rejected!")
        storage.put(head.key, sealed, content_type=objects.CONTENT_TYPE)


def of_another_life(storage: ObjectStorage, ours: Service, number: int) -> None:
    for place in range(number):
        put(storage, header(ours, age=timedelta(seconds=300 - place), incarnation=ours.service_id))


def is_next_look_done() -> bool:
    """Return whether the service may be worked on after another look: its turn has come."""
    Occurrence.objects.filter(name=LOOK).update(asked_at=None)
    return tripwire.check_if_due()


def make_due() -> Any:
    """Return the time of the last comparison."""
    Service.objects.update(checked_at=timezone.now() - timedelta(seconds=61))
    return service.current().checked_at


@pytest.mark.usefixtures("_up_for_a_day")
@pytest.mark.parametrize("plant", [forge, of_another_life])
def test_a_look_that_takes_long_ends_and_later_ones_go_on(ours, storage, read, plant) -> None:
    plant(storage, ours, 25)
    compared_at = make_due()

    assert tripwire.check_if_due()
    assert len(read) == tripwire._SECONDS == 10
    assert noted(Occurrence.Name.LEDGER_FOREIGN) == 1
    # The next is in a minute, so that the workers work meanwhile.
    assert tripwire.check_if_due()
    assert len(read) == 10
    assert is_next_look_done()
    assert service.current().checked_at == compared_at

    assert is_next_look_done()
    assert sorted(read) == sorted(set(read))
    assert len(read) == 25
    assert service.current().checked_at > compared_at


def test_nothing_is_worked_on_before_all_was_compared_where_a_restore_can_have_come(ours, storage, read) -> None:
    forge(storage, ours, 15)
    recovered()

    assert not tripwire.check_if_due()
    assert service.is_open()
    assert service.current().timeline == 77
    assert is_next_look_done()
    assert service.current().timeline != 77


@pytest.mark.parametrize("age", [280, 287, 150])
def test_many_forged_ones_do_not_hide_one_that_was_lost(ours, storage, read, age) -> None:
    forge(storage, ours, 25)
    lost = put(storage, header(ours, age=timedelta(seconds=age)))
    recovered()

    for _ in range(3):
        assert not is_next_look_done()

    assert not service.is_open()
    assert lost in read
    assert len(read) <= 26 + 1  # which is the newest is read again


def test_a_failover_is_noticed_at_once_beside_forged_ones(ours, storage, read) -> None:
    put(storage, header(ours, age=timedelta(minutes=30)))
    forge(storage, ours, 25)
    put(storage, header(ours))
    recovered()

    assert not tripwire.check_if_due()

    assert service.state() == "catching_up"
    assert len(read) == 2


@pytest.mark.usefixtures("_up_for_a_day")
def test_one_process_looks_and_the_others_work(ours: Service, storage: ObjectStorage, listings: list[str]) -> None:
    compared_at = make_due()
    assert occurrences.ask(LOOK, every=60)  # another process

    assert tripwire.check_if_due()

    assert (listings, service.current().checked_at) == ([], compared_at)


def test_the_others_do_not_work_where_a_restore_can_have_come(ours, storage, listings) -> None:
    recovered()
    assert occurrences.ask(LOOK, every=60)  # another process

    assert not tripwire.check_if_due()
    assert not listings

    # It was killed, and a look takes no longer than that.
    Occurrence.objects.filter(name=LOOK).update(asked_at=timezone.now() - timedelta(seconds=21))
    assert tripwire.check_if_due()
    assert len(listings) == 1


def test_a_failover_right_after_a_look_does_not_wait_for_a_turn(ours: Service, storage: ObjectStorage) -> None:
    make_due()
    assert tripwire.check_if_due()
    put(storage, header(ours))
    recovered()

    assert not tripwire.check_if_due()

    assert service.state() == "catching_up"


def test_a_turn_from_the_future_keeps_nobody_waiting(ours, storage, listings) -> None:
    """A process was killed at its look, and the clock of the server that came after is behind."""
    make_due()
    Occurrence.objects.create(name=LOOK, asked_at=timezone.now() + timedelta(hours=5))

    assert tripwire.check_if_due()

    assert len(listings) == 1


def test_another_server_is_noticed_whoever_looks(ours: Service, storage: ObjectStorage) -> None:
    Service.objects.update(server="another/1/1")
    assert occurrences.ask(LOOK, every=60)  # another process

    assert not tripwire.check_if_due()

    assert service.state() == "restored"


def test_an_operator_who_asks_gets_a_whole_comparison(ours: Service, storage: ObjectStorage, read: list[str]) -> None:
    forge(storage, ours, 25)
    assert occurrences.ask(LOOK, every=60)  # a worker looks too
    compared_at = make_due()

    tripwire.check()

    assert len(read) == 25
    assert service.current().checked_at > compared_at


def test_what_was_lost_before_the_newest_known_object_is_found(chatbot, storage, monkeypatch) -> None:
    """The storage has an error at the first look, and the new server's clock is behind: nothing says that it was
    started since. So the database works on, and writes an object.
    """
    monkeypatch.setattr(tripwire, "_looks_again_at", 0.0)
    ours, lost_at = service.current(), timezone.now() - timedelta(hours=2)
    known_at = lost_at - timedelta(hours=1)
    Service.objects.update(checked_at=known_at)
    LedgerObject.objects.create(key=f"{objects.PREFIX}{ours.service_id}/known", at=known_at)
    put(storage, header(ours, at=lost_at))
    conversation_of(chatbot, "alice")
    deletion_of(chatbot, "alice")

    with monkeypatch.context() as patched:
        patched.setattr(
            type(storage), "keys", failing(StorageError("storage_error", "It has an error.", retryable=True))
        )
        patched.setattr(tripwire._Snapshot, "up_since", known_at)
        worker.drain(seconds=10)
    written_at = LedgerObject.objects.latest("at").at
    assert written_at > lost_at + tripwire.BEFORE_THE_NEWEST

    # However long this server has been up.
    recovered()
    tripwire.check()

    assert service.state() != "open"


def test_an_object_that_may_not_be_read_is_not_taken_for_a_foreign_one(storage, monkeypatch) -> None:
    put(storage, header(service.current()))
    recovered()

    with monkeypatch.context() as patched:
        patched.setattr(
            type(storage), "stream", failing(StorageError("storage_access_denied", "Grant it s3:GetObject."))
        )
        with pytest.raises(StorageError):
            tripwire.check()
    assert not Occurrence.objects.filter(name=Occurrence.Name.LEDGER_FOREIGN).exists()

    tripwire.check()
    assert service.state() != "open"
