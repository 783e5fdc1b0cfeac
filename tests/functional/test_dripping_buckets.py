"""Clients' buckets that answer with a byte now and then hold nobody up but themselves."""

import time
from collections.abc import Iterator

import pytest

from chatbots.buckets import ObjectStorage
from chatbots.models import Chatbot
from compliance import queue
from compliance.models import ComplianceRequest
from scripts.processes import Processes
from tests import factories
from tests.clients import use_client_bucket
from tests.dripping import DrippingServer, dripping
from tests.extracting import conversation_on, noon, planned
from tests.factories import conversation_of, deletion_of, export_of
from tests.functional.test_killed_worker import start_cluster, wait_until
from tests.s3_server import S3Server, running

pytestmark = pytest.mark.django_db(transaction=True)

# A second is promised; the machine may have other things to do.
SOON = 5.0
ROUNDS = 12


@pytest.fixture
def server() -> Iterator[DrippingServer]:
    with dripping() as server:
        yield server


@pytest.fixture
def healthy() -> Iterator[S3Server]:
    with running() as server:
        yield server


def of_client(slug: str, endpoint: str, server: S3Server) -> Chatbot:
    chatbot = factories.ready_chatbot(slug=slug)
    use_client_bucket(chatbot, server, bucket=slug, endpoint=endpoint)
    return chatbot


def latest(seconds: list[float]) -> float:
    """The p99 of so few is the latest of all."""
    return max(seconds)


def test_others_exports_and_deletions_go_on_while_clients_buckets_drip(
    chatbot: Chatbot, neighbour: Chatbot, server: DrippingServer, healthy: S3Server, storage: ObjectStorage
) -> None:
    for name in ("first", "second", "third"):
        drips = of_client(name, server.endpoint, healthy)
        conversation_on(drips, "42", noon())
        export_of(drips, "42")
        planned(drips)
    use_client_bucket(neighbour, healthy)
    with Processes() as processes:
        start_cluster(processes)
        queue.ring()
        wait_until(lambda: server.calls >= 2)
        took = []
        for number in range(ROUNDS):
            value = f"member-{number}"
            filed = [export_of(each, value) for each in (chatbot, neighbour)]
            conversation_of(chatbot, value)
            filed.append(deletion_of(chatbot, f"gone-{number}"))
            began = time.monotonic()
            queue.ring()
            ours = ComplianceRequest.objects.filter(pk__in=[each.pk for each in filed])
            wait_until(lambda ours=ours: ours.filter(status="completed").count() == len(filed), seconds=SOON * 4)
            took.append(time.monotonic() - began)
            time.sleep(0.5)
    assert latest(took) < SOON
    assert not ComplianceRequest.objects.filter(chatbot__slug="first", status="completed").exists()
