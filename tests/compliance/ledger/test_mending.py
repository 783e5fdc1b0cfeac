"""Objects of the ledger that the bucket has lost are written again, and nothing else is."""

from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from django.utils import timezone
from pytest_django import Settings

from chatbots.models import Chatbot
from common.storage import ObjectStorage
from compliance.ledger import content, journal, lines, mending, service
from compliance.models import ComplianceRequest, LedgerObject, Occurrence, Service
from tests.compliance.conftest import Drain
from tests.compliance.replay.conftest import replay, work
from tests.factories import conversation_of, deletion_of
from tests.functional.company import Company, document
from tests.functional.redacting import SECRET, redact, said
from tests.ledger import header, keys_of, lines_of, noted, put, recovered, state
from tests.restoring import restored


def test_a_bucket_that_was_rolled_back_is_written_again_with_what_is_true_today(
    ours: Service, chatbot: Chatbot, drain: Drain, storage: ObjectStorage, caplog: pytest.LogCaptureFixture
) -> None:
    conversation_of(chatbot, "member-1")
    request = deletion_of(chatbot, "member-1")
    drain()
    exact = lines_of(storage, "exact")
    before = dict(LedgerObject.objects.values_list("key", "sha256"))
    for key in list(keys_of(storage)):
        storage.delete(key)
    service.begin_incarnation()

    assert state() == "open"

    # Also the object from two days ago, which the listing does not reach.
    assert set(keys_of(storage)) == before.keys()
    assert lines_of(storage) == exact * 2
    assert exact[0]["request"] == str(request.pk)
    life = service.current().incarnation
    for row in LedgerObject.objects.all():
        assert row.sha256
        assert content.unseal(storage.read(row.key), key=row.key).header.incarnation == life
    assert noted(Occurrence.Name.LEDGER_MISSING) == 1
    assert "ledger.missing" in caplog.text
    assert state() == "open"
    assert (noted(Occurrence.Name.LEDGER_MISSING), noted(Occurrence.Name.LEDGER_FOREIGN)) == (1, 0)
    assert service.current().mended_to is None


def test_what_was_withdrawn_since_is_written_again_as_withdrawn(
    ours: Service, chatbot: Chatbot, storage: ObjectStorage, settings: Settings
) -> None:
    request = deletion_of(chatbot, "member-1")
    journal.write_accepted([request.pk])
    (accepted,) = lines_of(storage, "accepted")
    storage.delete(LedgerObject.objects.latest("pk").key)
    ComplianceRequest.objects.filter(pk=request.pk).update(
        status="cancelled", cancelled_at=timezone.now(), uci_value=None
    )
    assert state() == "open"
    (withdrawn,) = (line for line in lines_of(storage) if line["request"] == accepted["request"])
    assert (withdrawn["kind"], withdrawn["status"]) == ("withdrawn", "cancelled")


def test_what_has_begun_since_is_written_again_as_begun(
    ours: Service, chatbot: Chatbot, storage: ObjectStorage
) -> None:
    """Its files may be gone: after a restore it can neither be held nor cancelled."""
    request = deletion_of(chatbot, "member-1")
    journal.write_accepted([request.pk])
    storage.delete(LedgerObject.objects.latest("pk").key)
    ComplianceRequest.objects.filter(pk=request.pk).update(started_at=timezone.now())

    assert state() == "open"

    assert [line["request"] for line in lines_of(storage, "intended")] == [str(request.pk)]


def test_a_database_that_was_restored_writes_nothing_again(ours: Service, storage: ObjectStorage) -> None:
    """Together with its bucket, from backups of different days: what it knows is not true any more."""
    gone = put(storage, header(ours, age=timedelta(hours=3)), is_known=True)
    storage.delete(gone)
    put(storage, header(ours))
    recovered()
    assert state() != "open"
    assert noted(Occurrence.Name.LEDGER_MISSING) == 0
    assert gone not in set(keys_of(storage))


def test_nothing_is_written_over_that_a_listing_has_left_out(
    ours: Service, storage: ObjectStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A storage that lists late, or as of before."""
    left_out = put(storage, header(ours), is_known=True)
    before = storage.read(left_out)
    row = LedgerObject.objects.filter(key=left_out)
    as_it_was = row.values("sha256", "written_at").get()
    keys = ObjectStorage.keys
    monkeypatch.setattr(ObjectStorage, "keys", lambda *a, **k: (key for key in keys(*a, **k) if key != left_out))
    assert state() == "open"
    assert noted(Occurrence.Name.LEDGER_MISSING) == 1
    assert storage.read(left_out) == before
    assert row.values("sha256", "written_at").get() == as_it_was


def test_it_stops_writing_once_the_database_is_closed(
    ours: Service, storage: ObjectStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mending, "_ROWS_AT_ONCE", 1)
    for key in [put(storage, header(ours, age=timedelta(hours=hours)), is_known=True) for hours in (5, 4, 3)]:
        storage.delete(key)
    before = set(keys_of(storage))
    written = ObjectStorage.put

    def put_and_trip(*given: Any, **named: Any) -> None:
        written(*given, **named)
        service.trip(service.State.RESTORED, service.Reason.OTHER_SERVER)

    monkeypatch.setattr(ObjectStorage, "put", put_and_trip)
    mending.begin(3)
    mending.go_on()
    assert len(set(keys_of(storage)) - before) == 1


def test_it_is_written_again_in_steps(ours: Service, storage: ObjectStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mending, "_ROWS_AT_ONCE", 2)
    known = [put(storage, header(ours, age=timedelta(hours=hours)), is_known=True) for hours in (5, 4, 3, 2, 1)]
    for key in (known[0], known[3], known[4]):
        storage.delete(key)
    mending.begin(1)
    for done in (2, 4, 6, None):
        Occurrence.objects.update(asked_at=None)
        mending.go_on(seconds=0)
        mended_to = service.current().mended_to
        rows = list(LedgerObject.objects.order_by("pk").values_list("pk", flat=True))
        assert mended_to == (done and rows[done - 1])
    assert set(known) <= set(keys_of(storage))
    assert noted(Occurrence.Name.LEDGER_MISSING) == 1


def test_what_a_replay_has_recorded_is_written_again_too(chatbot: Chatbot, storage: ObjectStorage) -> None:
    """It has no rows: neither the conversation that was erased, nor the message that was redacted."""
    company = Company(chatbot)
    with restored():
        [result] = company.send(document("c-2", "bob", messages=[said("m1", SECRET)]))
        redaction = redact(company, result["number"])
        company.talk("c-1", "alice")
        deletion = company.delete("alice")
        work()
        before = lines.current([UUID(deletion), UUID(redaction)], [])

    replay()

    after = lines.current([UUID(deletion), UUID(redaction)], [])
    for name in ("kind", "conversations", "conversation", "messages"):
        assert [one.get(name) for one in after] == [one.get(name) for one in before]
