"""A client's bucket that is silent, missing or back affects no other chatbot, and loses nothing."""

from collections.abc import Iterator

import pytest
from django.utils import timezone

from chatbots.buckets import location_of
from chatbots.models import Bucket, Chatbot, SilentStorage
from common.storage import ObjectStorage
from common.storage.removal import Removal
from compliance import worker
from compliance.cluster import notify
from compliance.models import ComplianceRequest, Export
from compliance.requests import decisions
from compliance.retention.expiry import remove_expired
from scripts.processes import Processes
from tests import factories
from tests.clients import PREFIX, empty, use_client_bucket
from tests.compliance.conftest import Drain, drain
from tests.compliance.exporting import COMPLETED, carry_out, is_empty, open_uploads, outcome, patch_pieces, taken
from tests.factories import conversation_of, deletion_of, export_of
from tests.functional.support import start_cluster, wait_until
from tests.patches import before, once
from tests.s3_server import Identity, S3Server, running

__all__ = ["drain"]

pytestmark = pytest.mark.usefixtures("refused_at_once")

Status = ComplianceRequest.Status


@pytest.fixture(scope="module")
def one_server() -> Iterator[S3Server]:
    with running() as server:
        yield server


@pytest.fixture
def server(one_server: S3Server, chatbot: Chatbot) -> S3Server:
    """The server of the chatbot's bucket, which is empty. A test that stops it starts it again."""
    empty(one_server.storage())
    use_client_bucket(chatbot, one_server)
    return one_server


def end_rest(chatbot: Chatbot) -> None:
    """Let time pass: the breaker allows calls again, and requests may be claimed again."""
    location_of(Bucket.objects.get(chatbot=chatbot)).storage.calls.breaker.reset()
    SilentStorage.objects.update(rests_until=timezone.now())
    ComplianceRequest.objects.update(not_before=None)


def left_behind(chatbot: Chatbot, storage: ObjectStorage, name: str = "left") -> None:
    """A given-up export with files left in the client's bucket."""
    key = f"{PREFIX}chatter_data_exports/42/{name}.csv"
    storage.put(key, b"whole, but never told", "text/csv")
    request = export_of(chatbot, "42", status="failed", failed_at=timezone.now(), error_code="worker_lost")
    factories.ExportFactory.create(
        request=request, key=key, hosting="client", bucket=storage.bucket_name, endpoint=storage.endpoint_url
    )


@pytest.mark.long(reason="a cluster waits until calls to a silent bucket end")
def test_a_cluster_serves_others_while_a_bucket_is_silent_and_then_that_bucket(chatbot, neighbour, server, storage):
    left_behind(chatbot, server.storage())
    conversation_of(chatbot, "42")
    theirs = [export_of(chatbot, f"member-{number}") for number in range(5)]
    theirs.append(deletion_of(chatbot, "42", approved_holds=["export_pending"]))
    for number in range(30):
        conversation_of(neighbour, f"member-{number}")
    others = [export_of(neighbour, f"member-{number}") for number in range(30)]
    others += [deletion_of(neighbour, f"member-{number}") for number in range(30)]
    notify.notify_workers()
    done = ComplianceRequest.objects.filter(status=Status.COMPLETED)

    server.pause()
    try:
        with Processes() as processes:
            start_cluster(processes)
            wait_until(lambda: done.filter(chatbot=neighbour).count() == len(others))
            assert not done.filter(chatbot=chatbot).exists()
            server.resume()
            wait_until(lambda: done.filter(chatbot=chatbot).count() == len(theirs))
    finally:
        server.resume()
    assert {outcome(request) for request in theirs + others} == {COMPLETED}
    whole = Export.objects.filter(chatbot=chatbot, finished_at__isnull=False)
    assert sorted(server.storage().keys()) == sorted(str(export.key) for export in whole)
    assert open_uploads(server.storage()) == []


def test_a_delete_interrupted_by_the_bucket_is_finished_when_it_is_back(
    chatbot: Chatbot, neighbour: Chatbot, server: S3Server, drain: Drain, monkeypatch: pytest.MonkeyPatch
) -> None:
    left_behind(chatbot, server.storage())
    ours, other = deletion_of(chatbot, "42", approved_holds=["export_pending"]), deletion_of(neighbour, "42")

    before(monkeypatch, Removal, "remove_versions", once(lambda *_: server.stop()))
    drain()
    assert outcome(ours) == ("accepted", "storage_unavailable", 1)
    assert outcome(other) == COMPLETED

    server.start()
    end_rest(chatbot)
    drain()
    assert outcome(ours) == ("completed", "", 1)
    assert is_empty(server.storage())


def test_the_sweep_continues_when_a_clients_bucket_is_missing(chatbot, neighbour, server, storage) -> None:
    left_behind(chatbot, server.storage())
    key = "neighbour/chatter_data_exports/42/left.csv"
    storage.put(key, b"left", "text/csv")
    given_up = export_of(neighbour, "42", status="failed", failed_at=timezone.now(), error_code="worker_lost")
    factories.ExportFactory.create(request=given_up, key=key)
    server.stop()
    worker.sweep()
    assert is_empty(storage)
    server.start()
    end_rest(chatbot)
    worker.sweep()
    assert is_empty(server.storage())
    empty(storage)


@pytest.mark.long(reason="a storage of the client's own")
def test_a_refusing_client_bucket_is_not_tried_again_in_the_same_run(chatbot, neighbour, server, storage, refusals):
    server.make_bucket("others")
    use_client_bucket(neighbour, server, bucket="others")
    theirs, others = server.storage(), server.storage(bucket="others")
    for name in ("first", "second"):
        left_behind(chatbot, theirs, name)
    left_behind(neighbour, others)
    refusals.locked.add("first")
    turn = remove_expired()
    assert (turn.refused, turn.removed["exports"]) == ({"storage_locked": 1}, 1)
    assert (len(list(theirs.keys())), is_empty(others)) == (2, True)

    refusals.end()
    assert remove_expired().removed["exports"] == 2
    assert is_empty(theirs)


def test_a_key_revoked_midway_gives_a_clear_error_and_a_retry_with_a_new_key_works(
    chatbot: Chatbot, server: S3Server, drain: Drain, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = (Identity(name, ["Read:clients", "Write:clients", "List:clients"]) for name in ("old", "new"))
    server.set_identities(old)
    use_client_bucket(chatbot, server, identity=old)
    factories.conversation_of(chatbot, "42", text="what was said")
    request = export_of(chatbot, "42")
    patch_pieces(monkeypatch, lambda: server.set_identities(new))
    carry_out(taken(request))
    assert outcome(request) == ("failed", "storage_access_denied", 1)
    assert "42" not in request.error_detail
    assert list(server.storage().keys()) == []

    use_client_bucket(chatbot, server, identity=new)
    decisions.retry(request_id=request.pk, actor="command")
    drain()
    assert outcome(request) == COMPLETED
    # The upload that the old key could not abort was removed before the new attempt.
    assert open_uploads(server.storage()) == []
