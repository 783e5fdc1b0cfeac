"""Work at a client's bucket runs in a thread while the worker does other work: concurrent requests."""

import threading
from collections.abc import Iterator

import pytest

from chatbots.models import BucketCheck, Chatbot
from common import proc
from common.storage import ObjectStorage
from compliance import worker
from compliance.cluster.background import THREADS, BackgroundJobs, Job
from compliance.models import Claim
from compliance.work import bucket_checks, claims
from tests.compliance.export.test_client_exports import failed, left_behind, shown
from tests.compliance.exporting import COMPLETED, export_of_request, outcome, patch_pieces
from tests.factories import conversation_of, deletion_of, export_of

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("storage")]

PATIENCE = 30


@pytest.fixture
def background() -> Iterator[BackgroundJobs]:
    background = BackgroundJobs(lambda: None)
    yield background
    background.end(PATIENCE)


@pytest.fixture
def goes_on(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """A running export waits for this event at its end."""
    goes_on = threading.Event()
    patch_pieces(monkeypatch, lambda: goes_on.wait(PATIENCE))
    yield goes_on
    goes_on.set()


def test_a_deletion_filed_meanwhile_waits_for_the_export_and_names_what_it_left(
    chatbot: Chatbot,
    neighbour: Chatbot,
    clients: ObjectStorage,
    background: BackgroundJobs,
    goes_on: threading.Event,
) -> None:
    conversation_of(chatbot, "42", text="what was said")
    export = export_of(chatbot, "42")
    worker.drain(seconds=PATIENCE, background=background)
    assert set(background.busy) == {chatbot.pk}

    deletion, others = deletion_of(chatbot, "42"), deletion_of(neighbour, "42")
    worker.drain(seconds=PATIENCE, background=background)
    assert outcome(others) == COMPLETED
    assert outcome(deletion) == ("accepted", "", 0)

    goes_on.set()
    assert background.wait(PATIENCE)
    assert outcome(export) == COMPLETED
    worker.drain(seconds=PATIENCE, background=background)
    assert outcome(deletion) == COMPLETED
    [key] = clients.keys()
    assert b"what was said" in clients.read(key)
    assert [kept["request_id"] for kept in shown(deletion)["kept_exports"]] == [str(export.pk)]
    assert export_of_request(export).key is None


def test_a_check_asked_for_meanwhile_waits_for_the_end_of_the_export(chatbot, clients, background, goes_on) -> None:
    export = export_of(chatbot, "42")
    worker.drain(seconds=PATIENCE, background=background)
    bucket_checks.enqueue(chatbot=chatbot)
    worker.drain(seconds=PATIENCE, background=background)
    assert BucketCheck.objects.get().token is None

    goes_on.set()
    assert background.wait(PATIENCE)
    worker.drain(seconds=PATIENCE, background=background)
    assert background.wait(PATIENCE)
    check = BucketCheck.objects.get()
    assert (check.finished_at is not None, check.error, bool(check.steps)) == (True, "", True)
    assert outcome(export) == COMPLETED
    assert list(clients.keys()) == [export_of_request(export).key]


def test_a_check_runs_first_even_while_all_threads_are_busy(chatbot, clients, background) -> None:
    goes_on = threading.Event()
    for number in range(THREADS):
        background.begin(Job(-1 - number, run=lambda: goes_on.wait(PATIENCE), requeue=lambda: None))
    export = export_of(chatbot, "42")
    bucket_checks.enqueue(chatbot=chatbot)
    worker.drain(seconds=PATIENCE, background=background)
    goes_on.set()
    assert background.wait(PATIENCE)
    assert BucketCheck.objects.get().finished_at
    assert outcome(export) == ("accepted", "", 0)


def test_a_worker_killed_before_its_first_call_leaves_the_bucket_to_the_next(chatbot, neighbour, clients) -> None:
    export, others = export_of(chatbot, "42"), export_of(neighbour, "42")
    lost = claims.take_for_bucket()
    assert lost
    assert claims.take_for_bucket() is None

    assert claims.requeue_from_cluster(proc.cluster(), blamed=proc.owner())
    worker.drain(seconds=PATIENCE)

    assert outcome(export) == ("completed", "", 1)
    assert outcome(others) == COMPLETED
    assert list(clients.keys()) == [export_of_request(export).key]
    assert not Claim.objects.exists()


def test_a_sweep_skips_a_bucket_in_use(chatbot, clients, background, goes_on) -> None:
    left = left_behind(chatbot, clients, **failed())
    export = export_of(chatbot, "43")
    worker.drain(seconds=PATIENCE, background=background)
    assert set(background.busy) == {chatbot.pk}
    worker.sweep(background)
    assert clients.exists(str(left.key))

    goes_on.set()
    assert background.wait(PATIENCE)
    worker.sweep(background)
    assert background.wait(PATIENCE)
    assert outcome(export) == COMPLETED
    assert list(clients.keys()) == [export_of_request(export).key]
