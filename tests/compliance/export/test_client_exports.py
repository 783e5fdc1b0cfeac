"""Exports into a client's own bucket, and the effect of deletions on them."""

from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from chatbots.models import Bucket, Chatbot
from common.storage import ObjectStorage
from compliance import worker
from compliance.api.schemas import RequestObject
from compliance.export.records import export_key
from compliance.models import ComplianceRequest, Export, ExportConversation, ExportFile, LeftCopy
from compliance.requests import decisions
from compliance.retention import objects
from compliance.work import claims
from tests import factories
from tests.clients import CLIENT, PREFIX, use_client_bucket, use_hosted_bucket
from tests.compliance.conftest import Drain
from tests.compliance.exporting import COMPLETED, carry_out, export_of_request, is_empty, open_uploads, outcome, taken
from tests.factories import conversation_of, deletion_of, export_of
from tests.functional.support import dump
from tests.s3_server import S3Server

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("refused_at_once")]


def delivered(chatbot: Chatbot, value: str = "42", **fields: Any) -> Export:
    request = export_of(chatbot, value, **fields)
    carry_out(taken(request))
    assert outcome(request) == COMPLETED
    return export_of_request(request)


def left_behind(chatbot: Chatbot, clients: ObjectStorage, **fields: Any) -> Export:
    """The rest of a worker killed before completion: an open upload and a published object."""
    key = f"{PREFIX}chatter_data_exports/42/left.csv"
    upload_id = clients.open_upload(key, content_type="text/csv")
    clients.put(key, b"whole, but never told", "text/csv")
    request = export_of(chatbot, "42", **fields)
    return factories.ExportFactory.create(
        request=request,
        key=key,
        upload_id=upload_id,
        hosting="client",
        bucket="clients",
        endpoint=clients.endpoint_url,
    )


def failed(**fields: Any) -> dict[str, Any]:
    return {"status": "failed", "failed_at": timezone.now(), "error_code": "storage_locked"} | fields


def shown(request: ComplianceRequest) -> dict[str, Any]:
    request = ComplianceRequest.objects.get(pk=request.pk)
    return RequestObject.of(request, status_url="", shows_key=True).model_dump(mode="json")


# --- Delivery ------------------------------------------------------------------------------------------


def test_it_is_written_below_the_prefix_and_nothing_into_the_hosted_bucket(chatbot, clients, storage) -> None:
    conversation_of(chatbot, "42", text="what was said")
    export = delivered(chatbot)
    assert str(export.key).startswith(f"{PREFIX}chatter_data_exports/42/")
    assert list(clients.keys()) == [export.key]
    assert b"what was said" in clients.read(str(export.key))
    assert is_empty(storage)
    assert (export.hosting, export.bucket, export.expires_at) == ("client", "clients", None)
    found = shown(export.request)["export"]
    assert (found["hosting"], found["bucket"], found["key"]) == ("client", "clients", export.key)


def test_a_file_of_the_same_second_whose_key_a_deletion_has_forgotten_is_not_overwritten(chatbot, clients) -> None:
    now = timezone.now()
    keys = [export_key(prefix=PREFIX, value="42", at=now + timedelta(seconds=seconds)) for seconds in range(30)]
    delivered(chatbot)
    Export.objects.update(key=None)
    for key in keys:
        clients.put(key, b"the chatter's own copy", "text/csv")
    ComplianceRequest.objects.update(completed_at=now + timedelta(seconds=30))
    assert delivered(chatbot).key not in keys
    assert {clients.read(key) for key in keys} == {b"the chatter's own copy"}


def test_a_client_without_a_prefix_gets_the_names_of_the_contract(chatbot, server, clients) -> None:
    use_client_bucket(chatbot, server, identity=CLIENT, prefix="")
    assert str(delivered(chatbot).key).startswith("chatter_data_exports/42/")


def test_hosted_and_clients_are_both_served(chatbot, neighbour, clients, drain, storage) -> None:
    ours = [export_of(chatbot, f"{number}") for number in range(3)]
    theirs = [export_of(neighbour, f"{number}") for number in range(3)]
    drain()
    assert [outcome(request) for request in ours + theirs] == [COMPLETED] * 6
    assert set(clients.keys()) == {export_of_request(request).key for request in ours}
    hosted = storage.keys()
    # Of those that take long there are objects of the ledger.
    assert {key for key in hosted if not key.startswith("erasure_ledger/")} == {
        export_of_request(request).key for request in theirs
    }


def test_the_service_forgets_an_export_in_a_clients_bucket_and_never_removes_it(chatbot, clients, storage) -> None:
    export = delivered(chatbot)
    Export.objects.update(finished_at=timezone.now() - timedelta(days=400))
    worker.sweep()
    assert list(clients.keys()) == [export.key]
    assert export_of_request(export.request).key is None


def test_the_next_attempt_removes_the_files_of_a_killed_one(chatbot: Chatbot, clients: ObjectStorage) -> None:
    left = left_behind(chatbot, clients)
    carry_out(taken(left.request))
    assert outcome(left.request) == COMPLETED
    assert list(clients.keys()) == [export_of_request(left.request).key]
    assert open_uploads(clients) == []


@pytest.mark.long(reason="the same with another bucket", beyond=1)
@pytest.mark.usefixtures("storage")
@pytest.mark.parametrize("again_hosted", [True, False])
def test_a_deletion_names_what_a_retry_has_left_in_a_former_bucket(
    chatbot: Chatbot, server: S3Server, clients: ObjectStorage, drain: Drain, again_hosted: bool
) -> None:
    left = left_behind(chatbot, clients)
    former = str(left.key)
    if again_hosted:
        use_hosted_bucket(chatbot)
    else:
        server.make_bucket("another")
        use_client_bucket(chatbot, server, bucket="another")
    carry_out(taken(left.request))
    assert outcome(left.request) == COMPLETED
    export = export_of_request(left.request)
    assert (export.hosting, export.bucket) == (("hosted", "") if again_hosted else ("client", "another"))
    assert list(clients.keys()) == [former]
    deletion = deletion_of(chatbot, "42", erase_exports=True)
    drain()
    assert outcome(deletion) == COMPLETED
    assert list(clients.keys()) == [former]
    kept = {(one["hosting"], one["finished_at"] is not None) for one in shown(deletion)["kept_exports"]}
    assert kept == {("client", False)} | (set() if again_hosted else {("client", True)})


def test_files_left_in_the_hosted_bucket_are_removed_after_a_change_to_a_clients(chatbot, clients, storage) -> None:
    request = export_of(chatbot, "42")
    key = "acme/chatter_data_exports/42/left.csv"
    storage.put(key, b"left", "text/csv")
    factories.ExportFactory.create(request=request, key=key)
    carry_out(taken(request))
    assert outcome(request) == COMPLETED
    assert is_empty(storage)


def test_a_secret_that_cannot_be_decrypted_fails_with_a_clear_error(chatbot: Chatbot, clients: ObjectStorage) -> None:
    Bucket.objects.filter(chatbot=chatbot).update(secret_encrypted="v1:lost:AAAA")
    request = export_of(chatbot, "42")
    carry_out(taken(request))
    assert outcome(request) == ("failed", "bucket_secret_unreadable", 1)


def test_a_removed_bucket_fails_with_a_clear_error(chatbot: Chatbot, storage: ObjectStorage) -> None:
    request = export_of(chatbot, "42")
    Bucket.objects.filter(chatbot=chatbot).delete()
    carry_out(taken(request))
    assert outcome(request) == ("failed", "export_destination_missing", 1)


def test_an_export_whose_bucket_changed_after_the_claim_is_requeued(chatbot, neighbour, server, clients, storage):
    use_hosted_bucket(chatbot)
    moved, stays = export_of(chatbot, "42"), export_of(neighbour, "42")
    held = taken(moved, stays)
    use_client_bucket(chatbot, server, identity=CLIENT)
    carry_out(held)
    assert outcome(stays) == COMPLETED
    assert outcome(moved) == ("accepted", "", 0)
    assert is_empty(clients)


# --- Deletion ------------------------------------------------------------------------------------------


def test_the_files_of_a_given_up_export_are_removed_by_the_deletion(chatbot, clients, drain) -> None:
    left = left_behind(chatbot, clients, **failed())
    deletion = deletion_of(chatbot, "42", approved_holds=["export_pending"])
    drain()
    assert outcome(deletion) == COMPLETED
    assert deletion.exports == 1
    # Claimed separately, since the client's bucket could be slow.
    assert deletion.lane == ComplianceRequest.Lane.CLIENT
    assert is_empty(clients)
    left.refresh_from_db()
    assert (left.key, left.removed_at is not None) == (None, True)


@pytest.mark.one_postgresql(reason="one claim for two chatbots")
def test_a_deletion_that_was_held_clears_the_key_of_what_was_delivered_meanwhile(chatbot, clients, drain) -> None:
    conversation_of(chatbot, "the-value")
    Chatbot.objects.filter(pk=chatbot.pk).update(four_eyes=True)
    deletion = deletion_of(chatbot, "the-value")
    drain()
    delivered(chatbot, "the-value")
    decisions.approve(request_id=deletion.pk, actor="user:7")
    drain()
    deletion.refresh_from_db()
    assert deletion.status == "completed"
    assert "the-value" not in dump()


def test_others_of_the_claim_do_not_wait_for_a_clients_bucket(chatbot, neighbour, clients, storage) -> None:
    left_behind(chatbot, clients, **failed())
    slow = deletion_of(chatbot, "42", approved_holds=["export_pending"])
    quick = deletion_of(neighbour, "42")
    held = claims.take(ComplianceRequest.Kind.DELETION)
    assert held
    assert set(held.request_ids) == {slow.pk, quick.pk}
    worker.work(held, deadline=timezone.now().timestamp())
    assert outcome(quick) == COMPLETED
    assert outcome(slow) == ("accepted", "", 0)


@pytest.mark.long(reason="the same with another bucket", beyond=1)
@pytest.mark.parametrize("now", ["hosted", "of the same name elsewhere"])
def test_a_deletion_names_files_in_a_bucket_that_can_no_longer_be_accessed(chatbot, clients, drain, storage, now):
    left = left_behind(chatbot, clients, **failed())
    if now == "hosted":
        use_hosted_bucket(chatbot)
    else:
        Bucket.objects.filter(chatbot=chatbot).update(endpoint="http://127.0.0.1:1")
    worker.sweep()
    deletion = deletion_of(chatbot, "42", approved_holds=["export_pending"])
    drain()
    assert outcome(deletion) == COMPLETED
    left.refresh_from_db()
    assert (left.key, left.removed_at) == (None, None)
    [kept] = shown(deletion)["kept_exports"]
    assert (kept["request_id"], kept["hosting"], kept["finished_at"]) == (str(left.request_id), "client", None)


def test_a_deletion_still_names_files_in_a_former_bucket_once_the_export_is_delivered_elsewhere(
    chatbot: Chatbot, clients: ObjectStorage, drain: Drain, storage: ObjectStorage
) -> None:
    conversation = conversation_of(chatbot, "41", "42")
    left = left_behind(chatbot, clients, include_shared=True, not_before=timezone.now() + timedelta(hours=1))
    ExportConversation.objects.create(chatbot=chatbot, export=left, conversation_id=conversation.pk)
    use_hosted_bucket(chatbot)
    deletion = deletion_of(chatbot, "41")
    drain()
    assert outcome(deletion) == COMPLETED
    named = shown(deletion)["kept_exports"]
    assert [(one["request_id"], one["hosting"]) for one in named] == [(str(left.request_id), "client")]
    ComplianceRequest.objects.update(not_before=None)
    drain()
    assert outcome(left.request) == COMPLETED
    assert shown(deletion)["kept_exports"] == named


def test_files_in_a_former_bucket_are_removed_once_it_is_set_again(chatbot, server, clients, storage) -> None:
    left = left_behind(chatbot, clients, **failed())
    beside = f"{PREFIX}chatter_data_exports/42/left_files/7"
    clients.put(beside, b"a picture", "image/jpeg")
    ExportFile.objects.create(chatbot=chatbot, export=left, file_id=7, key=beside)
    assert objects.clients_to_clean_up() == [chatbot.pk]
    use_hosted_bucket(chatbot)
    worker.sweep()
    assert len(list(clients.keys())) == 2
    # No worker turns to it in vain.
    assert objects.clients_to_clean_up() == []
    use_client_bucket(chatbot, server, identity=CLIENT)
    worker.sweep()
    assert is_empty(clients)
    assert not ExportFile.objects.exists()


def test_a_deletion_waiting_for_a_removed_bucket_continues_without_it(chatbot, clients, drain, storage) -> None:
    left = left_behind(chatbot, clients, **failed())
    deletion = deletion_of(chatbot, "42", lane="client", approved_holds=["export_pending"])
    Bucket.objects.filter(chatbot=chatbot).delete()
    drain()
    assert outcome(deletion) == COMPLETED
    left.refresh_from_db()
    assert (left.key, left.removed_at) == (None, None)


def test_files_left_by_a_retry_after_a_deletion_named_them_are_forgotten_too(
    chatbot, clients, drain, storage, caplog
):
    left = left_behind(chatbot, clients, **failed())
    use_hosted_bucket(chatbot)
    deletion = deletion_of(chatbot, "42", approved_holds=["export_pending"])
    LeftCopy.objects.create(chatbot=chatbot, deletion=deletion, export=left)
    former = str(left.key)
    drain()
    assert outcome(deletion) == COMPLETED
    left.refresh_from_db()
    assert left.key is None
    assert f"export.left_in_former_bucket exports={left.pk}" in caplog.text
    assert former not in caplog.text
