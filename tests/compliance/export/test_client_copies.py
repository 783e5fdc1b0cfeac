"""Copies that a deletion keeps: named in its status, without a value or digest kept beyond its retention."""

from datetime import timedelta

import pytest
from django.conf import settings
from django.utils import timezone

from chatbots.models import Chatbot
from common.storage import ObjectStorage
from compliance import worker
from compliance.api.schemas import RequestObject
from compliance.erasure import verify
from compliance.models import ComplianceRequest, Export, ExportFile, LeftCopy
from conversations import models as stored
from tests.clients import PREFIX, empty, use_client_bucket
from tests.compliance.conftest import Drain
from tests.compliance.export.test_client_exports import delivered, shown
from tests.compliance.exporting import COMPLETED, carry_out, export_of_request, outcome, taken
from tests.factories import conversation_of, deletion_of, export_of, of_conversations
from tests.functional.support import dump

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.mark.long(reason="the same with the other option", beyond=1)
@pytest.mark.parametrize("erase_exports", [False, True])
def test_a_complete_client_export_is_kept_and_named_and_its_key_cleared(
    chatbot: Chatbot, neighbour: Chatbot, clients: ObjectStorage, drain: Drain, erase_exports: bool
) -> None:
    conversation_of(chatbot, "the-value-of-42")
    export = delivered(chatbot, "the-value-of-42")
    others = delivered(chatbot, "43")
    key = str(export.key)
    deletion = deletion_of(chatbot, "the-value-of-42", erase_exports=erase_exports)
    drain()

    assert outcome(deletion) == COMPLETED
    assert deletion.exports == 0
    assert set(clients.keys()) == {key, others.key}
    export.refresh_from_db()
    assert (export.key, export.removed_at, export.expires_at) == (None, None, None)
    assert [(left.deletion_id, left.export_id) for left in LeftCopy.objects.all()] == [(deletion.pk, export.pk)]
    assert export_of_request(others.request).key == others.key
    assert "the-value-of-42" not in dump()
    found = {
        "request_id": str(export.request_id),
        "hosting": "client",
        "finished_at": shown(export.request)["finished_at"],
        "sha256": export.sha256,
        "expires_at": None,
        "removed_at": None,
    }
    assert shown(deletion)["kept_exports"] == [found]
    assert verify.audit([deletion.pk]).left == {}
    # Also when all digests are removed.
    ComplianceRequest.objects.update(uci_digest=None)
    assert shown(deletion)["kept_exports"] == [found]


@pytest.mark.long(reason="the other order", beyond=1)
@pytest.mark.parametrize("order", [("42", "43"), ("43", "42")], ids=["anothers-first", "own-first"])
def test_an_export_of_a_shared_conversation_is_named_by_the_deletions_of_both(
    chatbot: Chatbot, clients: ObjectStorage, drain: Drain, storage: ObjectStorage, order: tuple[str, str]
) -> None:
    conversation_of(chatbot, "42", "43")
    request = export_of(chatbot, "43", include_shared=True)
    drain()
    for value in order:
        deletion = deletion_of(chatbot, value)
        drain()
        assert outcome(deletion) == COMPLETED
        assert [kept["request_id"] for kept in shown(deletion)["kept_exports"]] == [str(request.pk)]
        assert verify.audit([deletion.pk]).left == {}
    assert export_of_request(request).key is None


@pytest.mark.long(reason="two storages of the clients' own")
def test_deletions_of_both_participants_name_copies_in_two_client_buckets(chatbot, server, clients, drain) -> None:
    conversation_of(chatbot, "alice", "bob", text="what both said")
    first = delivered(chatbot, "alice", include_shared=True)
    server.make_bucket("another")
    another = server.storage(bucket="another")
    use_client_bucket(chatbot, server, bucket="another")
    second = delivered(chatbot, "bob", include_shared=True)
    wanted = {str(first.request_id), str(second.request_id)}
    before = [*clients.keys()], [*another.keys()]

    for value in ("alice", "bob"):
        deletion = deletion_of(chatbot, value)
        drain()
        assert outcome(deletion) == COMPLETED
        assert {kept["request_id"] for kept in shown(deletion)["kept_exports"]} == wanted
    assert ([*clients.keys()], [*another.keys()]) == before
    assert not Export.objects.filter(key__isnull=False).exists()
    empty(another)


def test_a_client_copy_keeps_no_digest_beyond_the_ledgers_days(chatbot, clients, drain, storage) -> None:
    conversation_of(chatbot, "42", "43")
    export_of(chatbot, "43", include_shared=True)
    drain()
    deletion_of(chatbot, "42")
    drain()
    assert Export.objects.get().key
    stored.Conversation.objects.update(deleted_at=timezone.now() - settings.ERASURE_LEDGER_DAYS - timedelta(days=1))
    worker.sweep()

    assert stored.Conversation.objects.get().external_id_digest is None
    assert not stored.Identity.objects.exists()


@pytest.mark.parametrize("of", ["the export", "a copy of a file"])
def test_verification_finds_a_key_that_was_not_cleared(chatbot, clients, drain, of) -> None:
    export = delivered(chatbot)
    deletion = deletion_of(chatbot, "42")
    drain()
    back = "came back with a backup"
    if of == "the export":
        Export.objects.filter(pk=export.pk).update(key=back)
    else:
        ExportFile.objects.create(chatbot=chatbot, export=export, file_id=7, key=back)
    assert verify.audit([deletion.pk]).left[deletion.pk].rows == {"keys in compliance_export": 1}


def test_two_deletions_in_the_grace_both_name_the_kept_export(chatbot, drain, storage) -> None:
    export = export_of(chatbot, "42")
    drain()
    deletions = []
    for _ in range(2):
        deletions.append(deletion_of(chatbot, "42"))
        drain()
    assert [[kept["request_id"] for kept in shown(each)["kept_exports"]] for each in deletions] == [
        [str(export.pk)]
    ] * 2


@pytest.mark.long(reason="the same by the other selector", beyond=1)
@pytest.mark.parametrize("selector", ["uci", "ids"])
def test_a_deletion_names_and_keeps_a_client_export_by_ids(chatbot, clients, drain, settings, selector) -> None:
    conversation_of(chatbot, "42", external_id="c-42")
    request = of_conversations(chatbot, "c-42", kind="export")
    carry_out(taken(request))
    assert outcome(request) == COMPLETED
    export = export_of_request(request)
    assert export.key is not None
    assert export.key.startswith(f"{PREFIX}chatter_data_exports/!conversations/")
    how = {"erase_exports": True}
    deletion = deletion_of(chatbot, "42", **how) if selector == "uci" else of_conversations(chatbot, "c-42", **how)

    drain()

    assert outcome(deletion) == COMPLETED
    kept = RequestObject.of(deletion, status_url="", shows_key=True).model_dump(mode="json")["kept_exports"]
    assert [(one["request_id"], one["hosting"]) for one in kept] == [(str(request.pk), "client")]
    assert clients.exists(export.key)
    assert verify.audit([deletion.pk]).left == {}
    # No other deletion can find it, so the digests of the ids need not be kept with it.
    late = timezone.now() - settings.ERASURE_LEDGER_DAYS - timedelta(seconds=1)
    ComplianceRequest.objects.update(completed_at=late)
    worker.sweep()
    request.refresh_from_db()
    assert (request.conversation_digests, clients.exists(export.key)) == (None, True)
