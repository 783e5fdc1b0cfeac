"""`purge_expired`: everything expired is removed in one call."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from django.conf import settings
from django.contrib.auth.models import User
from django.contrib.sessions.models import Session
from django.core.management import call_command
from django.utils import timezone

from accounts.models import LoginFailures, StaffLogin
from chatbots.models import Chatbot
from common.storage import ObjectStorage, StorageError
from compliance import worker
from compliance.ledger import objects as ledger
from compliance.models import (
    ComplianceRequest,
    Export,
    ExportFile,
    LedgerLine,
    LedgerObject,
    LegalHold,
    Replay,
    RequestNote,
)
from compliance.retention import expiry, objects
from compliance.retention.objects import Cleanup
from conversations.models import (
    Conversation,
    DailyExtract,
    IdentityLookup,
    RefusedIdentity,
    Tombstone,
    UploadedFile,
    VariableValue,
)
from tests import factories
from tests.commands import report, run
from tests.compliance.conftest import Drain
from tests.extracting import FIRST, extract_of, planned
from tests.factories import conversation_of, deletion_of, export_of, of_conversations
from tests.holding import place, release
from tests.patches import before, failing

LATE = timedelta(days=400)
OTHERS_LEDGER = f"{ledger.PREFIX}{uuid4()}/2020/01/01/"


def purge_expired(*options: str, code: int = 0) -> dict[str, Any]:
    return report("purge_expired", *options, code=code)


def expired_export(chatbot: Chatbot, storage: ObjectStorage, name: str) -> Export:
    key = f"{chatbot.slug}/chatter_data_exports/{name}/a.csv"
    storage.put(key, b"lines", "text/csv")
    now = timezone.now()
    return factories.ExportFactory.create(
        request=factories.RequestFactory.create(
            chatbot=chatbot, kind="export", status="completed", result="done", completed_at=now, uci_value=None
        ),
        key=key, rows=1, bytes=5, sha256="0" * 64, finished_at=now - LATE, expires_at=now - LATE,
    )  # fmt: skip


def old_exports(chatbot: Chatbot, at: datetime) -> None:
    """One that failed, another for which a deletion is held, and one that was delivered with a copy of a file."""
    for value in ("50", "51"):
        export = export_of(chatbot, value)
        ComplianceRequest.objects.filter(pk=export.pk).update(status="failed", failed_at=at, error_code="no_bucket")
    held = deletion_of(chatbot, "51")
    ComplianceRequest.objects.filter(pk=held.pk).update(status="on_hold", hold_reason="export_pending", held_at=at)
    delivered = factories.ExportFactory.create(
        request=export_of(chatbot, "52"), hosting="client", key=f"{chatbot.slug}/52.csv",
        rows=1, bytes=5, sha256="0" * 64, finished_at=at,
    )  # fmt: skip
    ComplianceRequest.objects.filter(pk=delivered.request_id).update(
        status="completed", result="done", completed_at=timezone.now(), uci_value=None
    )
    ExportFile.objects.create(
        chatbot=chatbot, export=delivered, file_id=8, key=f"{chatbot.slug}/52_files/8", bytes=5, sha256="0" * 64
    )


def released_holds(chatbot: Chatbot, past: datetime) -> None:
    for matter, at in (("old", past), ("new", timezone.now())):
        hold, _ = place(chatbot, ["c-9"], matter=matter)
        release(hold)
        LegalHold.objects.filter(pk=hold.pk).update(released_at=at)


def known_of_the_ledger(storage: ObjectStorage, past: datetime) -> None:
    """The last object is of another service."""
    for folder in (f"{ledger.PREFIX}2020-01-01/", f"{ledger.folder()}2020/01/01/", OTHERS_LEDGER):
        storage.put(f"{folder}120000-old.jsonl", b"{}", "application/json")
    LedgerObject.objects.create(key="old", at=past - timedelta(days=30))
    for number, at in enumerate((past, timezone.now())):
        LedgerLine.objects.create(
            request_id=UUID(int=number), kind="accepted", line={}, key="x", at=at, incarnation=UUID(int=0)
        )


@pytest.fixture
def expired(chatbot: Chatbot, neighbour: Chatbot, storage: ObjectStorage, drain: Drain) -> dict[str, int]:
    """An expired and an unexpired row of each store; returns the counts."""
    conversation_of(chatbot, "42")
    request = deletion_of(chatbot, "42", reference="T-1")
    of_conversations(chatbot, "c-1")
    drain()
    tombstone = Tombstone.objects.get()
    assert tombstone.expires_at - tombstone.cutoff_at == settings.ERASURE_LEDGER_DAYS
    past = timezone.now() - LATE
    Tombstone.objects.update(expires_at=past)
    Conversation.objects.update(deleted_at=past)
    type(request).objects.update(completed_at=past)
    conversation_of(neighbour, "42")
    deletion_of(neighbour, "42", reference="T-2")
    drain()
    for number in range(3):
        expired_export(chatbot, storage, f"old{number}")
    old_exports(chatbot, past)
    old_exports(neighbour, past + timedelta(days=1) + LATE)
    new = expired_export(neighbour, storage, "new")
    Export.objects.filter(pk=new.pk).update(expires_at=timezone.now() + timedelta(days=1))
    ExportFile.objects.create(chatbot=neighbour, export=new, file_id=7, key="copy", bytes=5, sha256="0" * 64)
    live = conversation_of(chatbot, "43")
    for owner, erased in ((chatbot, request), (neighbour, deletion_of(neighbour, "44"))):
        RefusedIdentity.objects.create(
            chatbot=owner, conversation=conversation_of(owner, "45"), request_id=erased.pk, way="asserted",
            expires_at=past,
        )  # fmt: skip
        factories.RequestFactory.create(
            chatbot=owner, kind="redaction", status="completed", result="nothing_found", message_digests=[b"x"],
            variable=None, uci_value=None, uci_digest=None, completed_at=past if owner == chatbot else timezone.now(),
        )  # fmt: skip
    for key, age in (("uploads/1/old", LATE), ("uploads/1/new", timedelta(hours=1))):
        factories.UploadedFileFactory.create(conversation=live, object_key=key, created_at=timezone.now() - age)
    for owner, age in ((chatbot, LATE), (neighbour, -LATE)):
        planned(owner)
        key = f"{owner.slug}/daily_conversations_extracts/{FIRST}_conversations_extract.csv"
        storage.put(key, b"header", "text/csv")
        DailyExtract.objects.filter(chatbot=owner).update(key=key, expires_at=timezone.now() - age)
    storage.open_upload("uploads/1/old", content_type="image/jpeg")
    factories.VariableValueFactory.create(conversation=live, expires_at=past)
    kept = factories.VariableValueFactory.create(conversation=conversation_of(chatbot, "44")).conversation
    for conversation, expires_at in ((live, past), (kept, timezone.now() + timedelta(days=1))):
        IdentityLookup.objects.create(
            chatbot=chatbot, conversation=conversation, state="unknown", finished_at=past, give_up_at=past,
            expires_at=expires_at,
        )  # fmt: skip
    released_holds(chatbot, past)
    known_of_the_ledger(storage, past)
    Replay.objects.create(chatbot=chatbot, path="x", digest=b"x", body_digest=b"x", request=request, expires_at=past)
    factories.CallbackFactory.create(request=request, expires_at=past, delivered=True)
    factories.CallbackFactory.create(request=request, delivered=True)
    for number, at in enumerate((past, timezone.now())):
        RequestNote.objects.create(chatbot=chatbot, request=request, entry_id=number, text="words", created_at=at)
    for age in (LATE, -timedelta(hours=1)):
        Session.objects.create(session_key=f"s{age.days}", expire_date=timezone.now() - age)
    user = User.objects.create_user("staff")
    for address, age in (("192.0.2.1", LATE), ("192.0.2.2", timedelta(minutes=1))):
        StaffLogin.objects.create(user=user, address=address, at=timezone.now() - age)
    for address, age in (("192.0.2.1", timedelta(minutes=5)), ("192.0.2.2", -timedelta(hours=1))):
        ends_at = timezone.now() - age
        LoginFailures.objects.create(key=address.encode(), address=address, failures=1, ends_at=ends_at)
    return dict.fromkeys(expiry.EXPIRY, 1) | {
        "exports": 3,
        "forgotten_uploads": 0,
        "ledger_objects": 2,
        "given_up_keys": 0,
    }


def keys(storage: ObjectStorage) -> set[str]:
    return {version.key for version in storage.versions() if not version.key.startswith(ledger.PREFIX)}


def test_expired_rows_of_each_store_are_removed_and_nothing_else(expired, chatbot, neighbour, storage, monkeypatch):
    monkeypatch.setattr(objects, "_PER_PAGE", 2)
    monkeypatch.setattr(expiry, "_ROWS_AT_ONCE", 1)
    before = keys(storage)
    for _ in range(2):
        assert purge_expired("--dry-run") == {"dry_run": True, "expired": expired}
        assert keys(storage) == before

    assert purge_expired() == {"removed": expired, "refused": {}}

    assert purge_expired("--dry-run")["expired"] == dict.fromkeys(expired, 0)
    assert purge_expired() == {"removed": dict.fromkeys(expired, 0), "refused": {}}
    assert keys(storage) == {"neighbour/chatter_data_exports/new/a.csv", str(extract_of(neighbour).key)}
    assert not list(storage.uploads("uploads/1/old"))
    assert (extract_of(chatbot).state, extract_of(chatbot).key) == ("expired", None)
    assert Export.objects.filter(removed_at__isnull=False, key__isnull=True).count() == 3
    assert set(Export.objects.filter(key__contains="/52").values_list("chatbot", flat=True)) == {neighbour.pk}
    assert set(ExportFile.objects.values_list("key", flat=True)) == {"copy", "neighbour/52_files/8"}
    failed = ComplianceRequest.objects.filter(status="failed", uci_value=None)
    assert list(failed.values_list("chatbot", "uci_digest")) == [(chatbot.pk, None)]
    assert ComplianceRequest.objects.exclude(message_digests=None).get().chatbot == neighbour
    assert UploadedFile.objects.get().object_key == "uploads/1/new"
    assert (VariableValue.objects.count(), Tombstone.objects.count()) == (1, 1)
    # That deletion is not over.
    assert RefusedIdentity.objects.get().chatbot == neighbour
    assert IdentityLookup.objects.count() == 1
    assert Conversation.objects.filter(external_id_digest__isnull=False, deleted_at__isnull=False).count() == 1
    assert len(list(storage.keys(ledger.PREFIX))) == 4 + 1, "Two of each deletion: before and after."
    assert list(storage.keys(OTHERS_LEDGER))
    assert {one.objects.get().address for one in (StaffLogin, LoginFailures)} == {"192.0.2.2"}
    assert Session.objects.count() == 1
    assert ComplianceRequest.objects.exclude(reference="").get().reference == "T-2"


def test_a_failed_export_keeps_its_value_as_long_as_that_is_needed(chatbot: Chatbot) -> None:
    """Where its object is not removed yet, or a deletion by either selector is held for it."""
    at = timezone.now() - LATE
    with_object, awaited, other = (export_of(chatbot, value) for value in "123")
    ComplianceRequest.objects.update(status="failed", failed_at=at, error_code="no_bucket")
    factories.ExportFactory.create(request=with_object, key="left")
    held = of_conversations(chatbot, "c-1")
    ComplianceRequest.objects.filter(pk=held.pk).update(
        status="on_hold", hold_reason="export_pending", held_at=at, pending_export_id=awaited.pk
    )

    assert sum(expiry.EXPIRY["failed_exports"].remove(Cleanup())) == 1

    kept = ComplianceRequest.objects.filter(uci_value__isnull=False).order_by("seq")
    assert list(kept) == [with_object, awaited]
    other.refresh_from_db()
    assert (other.status, other.uci_digest) == ("failed", None)


@pytest.fixture
def expired_exports(chatbot: Chatbot, storage: ObjectStorage) -> None:
    """Three expired exports, and another chatter's expired value."""
    for number in range(3):
        expired_export(chatbot, storage, f"old{number}")
    factories.VariableValueFactory.create(conversation=conversation_of(chatbot), expires_at=timezone.now() - LATE)


def test_rows_refused_by_storage_are_kept_and_do_not_block_others(expired_exports, monkeypatch) -> None:
    monkeypatch.setattr(objects, "_PER_PAGE", 1)

    def locked(self: ObjectStorage, keys: Sequence[str]) -> None:
        if "old0" in keys[0]:
            raise StorageError("storage_locked", "An object lock forbids it.")

    with monkeypatch.context() as patch:
        before(patch, ObjectStorage, "purge_many", locked)
        outcome = purge_expired(code=3)

    assert outcome["refused"] == {"storage_locked": 1}
    assert (outcome["removed"]["exports"], outcome["removed"]["variable_values"]) == (2, 1)
    assert [export.key for export in objects.exports()] == ["acme/chatter_data_exports/old0/a.csv"]
    assert purge_expired()["removed"]["exports"] == 1


def test_the_sweep_stops_a_task_out_of_time_and_the_command_continues(expired_exports, monkeypatch, caplog) -> None:
    monkeypatch.setattr(objects, "_SECONDS_PER_TASK", -1.0)
    monkeypatch.setattr(objects, "_PER_PAGE", 1)

    worker.sweep()
    assert objects.exports().count() == 2

    text = run("purge_expired", "--dry-run").out + run("purge_expired").out + caplog.text
    assert "removed: 2 exports" in text
    assert "/old" not in text, "No key is printed."


def test_the_sweep_aborts_uploads_that_no_row_names(chatbot: Chatbot, storage: ObjectStorage, monkeypatch) -> None:
    """A worker was killed after it had opened them, and an erasure has removed the rows."""
    file = factories.UploadedFileFactory.create(conversation=conversation_of(chatbot, "43"), object_key="uploads/1/a")
    theirs = [file.object_key, "acme/notes.txt"]
    for key in ("acme/chatter_data_exports/erin/a.csv", "uploads/1/b", *theirs):
        storage.open_upload(key, content_type="text/csv")

    worker.sweep()
    assert len(list(storage.uploads())) == 4  # younger uploads may belong to a worker of another database

    monkeypatch.setattr(objects, "_UPLOAD_FORGOTTEN", timedelta(seconds=-2))
    assert purge_expired("--dry-run")["expired"]["forgotten_uploads"] == 2
    worker.sweep()
    assert sorted(upload.key for upload in storage.uploads()) == sorted(theirs)


@pytest.mark.long(reason="the same at another listing", beyond=1)
@pytest.mark.parametrize(("listed", "store"), [("keys", "ledger_objects"), ("uploads", "forgotten_uploads")])
def test_other_expired_data_is_removed_when_storage_refuses_to_list(expired_exports, monkeypatch, listed, store):
    to_count = {"keys": 2, "uploads": 1}[listed]
    listings: list[object] = []
    uploads_of = ObjectStorage.uploads

    def denied_later(*args: Any) -> Any:
        if listed == "uploads" and len(args) > 1:
            return uploads_of(*args)  # those of one key, which is removed
        listings.append(args)
        if len(listings) > to_count:
            raise StorageError("storage_access_denied", "The access key needs s3:ListBucket.")
        return iter(())

    with monkeypatch.context() as patch:
        patch.setattr(ObjectStorage, listed, denied_later)
        outcome = purge_expired(code=3)

    assert outcome["refused"] == {"storage_access_denied": 1}
    removed = outcome["removed"]
    assert (removed["exports"], removed["variable_values"], removed[store]) == (3, 1, 0)


def test_unavailable_storage_is_reported(chatbot: Chatbot, storage: ObjectStorage, monkeypatch) -> None:
    monkeypatch.setattr(ObjectStorage, "keys", failing())

    with pytest.raises(Exception, match="storage_unavailable: The storage does not answer"):
        call_command("purge_expired")
