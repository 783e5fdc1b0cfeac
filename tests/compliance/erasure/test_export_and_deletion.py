"""Export and deletion of one chatter, in both orders, and the effect of a deletion on earlier exports.

With real commits: an export reads its snapshot on a connection of its own.
"""

from datetime import timedelta
from functools import partial

import pytest
from django.db import transaction
from django.utils import timezone
from pytest_django import Settings

from chatbots.models import ChangeLogEntry, Chatbot
from common.storage import ObjectStorage, StorageError
from common.storage.removal import Removal, Removed
from compliance import worker
from compliance.erasure import marking, objects, rows
from compliance.ledger import journal
from compliance.models import ComplianceRequest, Export
from compliance.requests import decisions
from compliance.work import claims, sizes
from compliance.work.transitions import completion
from tests import factories
from tests.compliance.conftest import Drain
from tests.compliance.exporting import COMPLETED, carry_out, outcome, taken
from tests.factories import conversation_of, deletion_of, export_of
from tests.functional.elsewhere import Elsewhere, wait_until_blocked
from tests.patches import after, before, once
from tests.under_roles import role

Status = ComplianceRequest.Status
Hold = ComplianceRequest.HoldReason

pytestmark = pytest.mark.django_db(transaction=True)


def test_a_failed_export_holds_a_later_deletion_until_it_is_delivered(chatbot: Chatbot, drain: Drain) -> None:
    conversation_of(chatbot, "42")
    export = export_of(chatbot, "42", status=Status.FAILED, failed_at=timezone.now(), error_code="storage_locked")
    request = deletion_of(chatbot, "42")

    drain()
    request.refresh_from_db()
    assert (request.status, request.hold_reason) == (Status.ON_HOLD, Hold.EXPORT_PENDING)

    decisions.retry(request_id=export.pk, actor="command")
    drain()

    export.refresh_from_db()
    request.refresh_from_db()
    assert (export.status, export.messages) == (Status.COMPLETED, 2)
    assert (request.status, request.messages) == (Status.COMPLETED, 2)
    assert export.completed_at < request.cutoff_at
    log = ChangeLogEntry.objects.filter(request_id=request.pk).order_by("pk").values_list("event", "data__reason")
    assert list(log) == [
        ("request.held", "export_pending"),
        ("request.released", "export_pending"),
        ("request.started", None),
        ("request.completed", None),
    ]


def test_an_export_and_a_deletion_of_one_chatter_run_in_the_order_of_filing(chatbot, drain, storage) -> None:
    for value in ("42", "43"):
        conversation_of(chatbot, value, text="what was said")
    first, deletion = export_of(chatbot, "42"), deletion_of(chatbot, "42")
    other_deletion, second = deletion_of(chatbot, "43"), export_of(chatbot, "43")

    drain()

    assert {outcome(each)[0] for each in (first, deletion, other_deletion, second)} == {"completed"}
    assert (first.messages, deletion.messages, other_deletion.messages) == (2, 2, 2)
    # Recent: the copy that the person requested is kept for its grace.
    assert storage.exists(str(first.export.key))
    assert first.export.expires_at < timezone.now() + timedelta(days=8)
    assert (second.result, second.export.rows) == ("nothing_found", 0)


@pytest.mark.parametrize(("failed", "kept"), [(timedelta(), None), (timedelta(hours=1), "42")])
def test_an_export_that_failed_while_the_deletion_was_held_forgets_the_value(chatbot, drain, failed, kept) -> None:
    """One that fails after the mark is about what came since."""
    conversation_of(chatbot, "42")
    held = {"hold_reason": Hold.AWAITING_APPROVAL, "held_at": timezone.now()}
    request = deletion_of(chatbot, "42", status=Status.ON_HOLD, **held)
    export = export_of(
        chatbot, "42", status=Status.FAILED, failed_at=timezone.now() + failed, error_code="storage_access_denied"
    )

    decisions.approve(request_id=request.pk, actor="command")
    drain()

    request.refresh_from_db()
    export.refresh_from_db()
    assert (request.status, export.uci_value) == (Status.COMPLETED, kept)
    assert decisions.is_retryable(export) == bool(kept)


def test_an_export_that_began_again_meanwhile_does_not_expire(chatbot: Chatbot, storage: ObjectStorage) -> None:
    """A deletion found it by its former key, and waits for its row. What it is by now is looked at again."""
    in_time = timezone.now() + timedelta(days=9)
    file = {"key": "acme/first.csv", "expires_at": in_time}
    export = factories.ExportFactory.create(request=export_of(chatbot, "42"), **file)
    deletion = deletion_of(chatbot, "42", erase_exports=True)

    with transaction.atomic():
        Export.objects.filter(pk=export.pk).update(key="acme/second.csv")
        removing = Elsewhere(lambda: objects.erase_exports(transaction.atomic, [deletion.pk], at_clients=False))
        wait_until_blocked()
    assert removing.end() == {}

    export.refresh_from_db()
    assert (export.key, export.expires_at) == (None, in_time)


def test_an_export_finished_after_the_mark_is_kept_as_long_as_one_before_it(
    chatbot: Chatbot, drain: Drain, storage: ObjectStorage, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    factories.UploadedFileFactory.create(conversation=conversation_of(chatbot, "42"), stored=True)
    export = export_of(chatbot, "42", status=Status.FAILED, failed_at=timezone.now(), error_code="storage_locked")
    deletion = deletion_of(chatbot, "42", approved_holds=[Hold.EXPORT_PENDING])

    def locked(_: Removal, keys: list[str]) -> Removed:
        return Removed(failed=dict.fromkeys(keys, StorageError("storage_locked", "An object lock forbids it.")))

    with monkeypatch.context() as patch:
        patch.setattr(Removal, "purge_many", locked)
        drain()
    decisions.retry(request_id=export.pk, actor="command")
    drain()

    assert [outcome(each)[0] for each in (deletion, export)] == ["failed", "completed"]
    finished = Export.objects.get(request=export)
    assert finished.expires_at == finished.finished_at + settings.EXPORT_GRACE_DAYS


def test_the_sweep_keeps_the_new_file_of_a_retried_export(chatbot, storage, monkeypatch) -> None:
    """The retry happens after the sweep found the files of the given-up export, before it has removed them."""
    export = export_of(chatbot, "42", status=Status.FAILED, failed_at=timezone.now(), error_code="storage_locked")
    left = factories.ExportFactory.create(request=export, key="acme/chatter_data_exports/42/left.csv")
    storage.put(str(left.key), b"whole, but never told", "text/csv")

    @role("owner")
    def retry(*_: object) -> None:
        decisions.retry(request_id=export.pk, actor="command")
        carry_out(taken(export))

    after(monkeypatch, ObjectStorage, "purge", once(retry))
    worker.sweep()

    left.refresh_from_db()
    assert outcome(export) == COMPLETED
    assert left.key
    assert list(storage.keys()) == [left.key]


def test_a_deletion_finds_exports_of_any_age(chatbot, drain, storage, settings) -> None:
    """It contains no conversation; its key contains the value."""
    settings.HOSTED_FILE_DAYS = timedelta(days=400)
    export = export_of(chatbot, "42")
    drain()
    long_ago = timezone.now() - settings.ERASURE_LEDGER_DAYS - timedelta(days=1)
    ComplianceRequest.objects.update(completed_at=long_ago)
    worker.sweep()
    export.refresh_from_db()
    key = str(export.export.key)
    assert storage.exists(key)

    deletion = deletion_of(chatbot, "42", erase_exports=True)
    drain()

    assert outcome(deletion) == COMPLETED
    assert not storage.exists(key)


def test_an_export_started_after_the_deletion_was_claimed_runs_first(chatbot: Chatbot, drain: Drain) -> None:
    conversation_of(chatbot, "42")
    export = export_of(chatbot, "42", status=Status.FAILED, failed_at=timezone.now(), error_code="storage_locked")
    deletion = deletion_of(chatbot, "42")
    held = claims.take(ComplianceRequest.Kind.DELETION)
    assert held
    decisions.retry(request_id=export.pk, actor="command")
    assert marking.admit(held, sizes.measure(held)) == []
    other = taken(export)
    with other.transaction() as now:
        completion.start_exports(other, now, [chatbot.pk])

    assert marking.admit(held, sizes.measure(held)) == []
    held.release()
    carry_out(other)
    drain()
    assert [outcome(each) for each in (export, deletion)] == [COMPLETED] * 2
    assert (export.messages, deletion.messages) == (2, 2)


def test_an_export_that_is_retried_while_a_deletion_erases_ends_first(chatbot, drain, monkeypatch) -> None:
    conversation_of(chatbot, "42")
    export = export_of(chatbot, "42", status=Status.FAILED, failed_at=timezone.now(), error_code="storage_locked")
    deletion = deletion_of(chatbot, "42", approved_holds=[Hold.EXPORT_PENDING])

    retry = partial(decisions.retry, request_id=export.pk, actor="command")
    before(monkeypatch, journal, "conclude", once(lambda *_: retry()))
    drain()

    assert [outcome(each)[0] for each in (export, deletion)] == ["completed"] * 2
    assert export.completed_at < deletion.completed_at


def test_an_export_that_holds_nothing_expires_at_the_mark(chatbot, drain, settings, monkeypatch) -> None:
    """Also where the mark erases nothing yet: it is of more than a chunk."""
    monkeypatch.setattr(rows, "CHUNK_MESSAGES", 1)
    export = export_of(chatbot, "42")
    drain()
    conversation_of(chatbot, "42", messages=3)
    deletion = deletion_of(chatbot, "42")
    drain()

    export.export.refresh_from_db()
    assert outcome(deletion) == COMPLETED
    assert export.export.expires_at <= timezone.now() + settings.EXPORT_GRACE_DAYS


def test_the_deletion_of_its_own_chatter_decides_whether_an_export_is_removed(chatbot: Chatbot, drain: Drain) -> None:
    """Each export is of the second of two, whose deletion or that of the other is to remove exports."""
    pairs = {("42", "43"): False, ("44", "45"): True}
    exports = {}
    for pair in pairs:
        conversation_of(chatbot, *pair)
        exports[pair] = export_of(chatbot, pair[1], include_shared=True)
    drain()
    for (other, own), own_erases in pairs.items():
        deletion_of(chatbot, other, erase_exports=not own_erases)
        deletion_of(chatbot, own, erase_exports=own_erases)

    drain()

    assert {pair: Export.objects.get(request=one).key is None for pair, one in exports.items()} == pairs
