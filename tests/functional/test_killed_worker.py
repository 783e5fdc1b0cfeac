"""A real cluster is killed with SIGKILL in the middle of a redaction; another one finishes."""

import subprocess
import time
from collections.abc import Callable, Iterator
from uuid import UUID

import pytest
from pytest_django import Settings

from chatbots.buckets import hosted_storage
from chatbots.models import Chatbot
from compliance.ledger import journal
from compliance.models import ComplianceRequest
from conversations.models import Message
from scripts.processes import Processes
from tests.functional.company import Company, events, key_of_file
from tests.functional.redacting import KEPT, PICTURE, SECRET, found, message_of, redact, talk
from tests.functional.support import manage, worker_environment
from tests.s3_server import ADMIN, S3Server, running

pytestmark = pytest.mark.long(reason="two clusters and a storage of its own")


def wait_until(true: Callable[[], bool], *, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.02)


def start_cluster(processes: Processes) -> subprocess.Popen[bytes]:
    return processes.start("worker", manage("qcluster"), env=worker_environment())


@pytest.fixture
def server(settings: Settings) -> Iterator[S3Server]:
    """The operator's storage, which can be paused."""
    with running() as server:
        settings.S3_ENDPOINT_URL = settings.S3_PUBLIC_ENDPOINT_URL = server.endpoint
        settings.S3_ACCESS_KEY_ID, settings.S3_SECRET_ACCESS_KEY = ADMIN.access_key, ADMIN.secret_key
        settings.S3_BUCKET = server.s3.bucket
        yield server


def test_another_cluster_finishes_with_right_counts_and_one_completion(chatbot: Chatbot, server: S3Server) -> None:
    storage, company = hosted_storage(), Company(chatbot)
    number, other = talk(company, "c-1", "alice"), company.talk("c-2", "bob", has_file=True)
    removed, untouched = company.exported("alice", include_files=True), company.exported("bob")
    company.make_day()
    kept = list(Message.objects.exclude(pk=message_of(number).pk).order_by("pk").values())
    redaction = redact(company, number)
    status = ComplianceRequest.objects.filter(pk=redaction).values_list("status", flat=True)

    # The messages are emptied, and the first call to the storage after it does not end.
    journal.intend([UUID(redaction)])
    server.pause()
    with Processes(stop_timeout=0) as processes:
        start_cluster(processes)
        wait_until(lambda: message_of(number).kind == "redacted")
        processes.kill("worker")
        server.resume()
        assert status.get() == "processing"
        assert found(storage) >= {SECRET, PICTURE}, "it was killed too late to show anything"
        start_cluster(processes)
        wait_until(lambda: not ComplianceRequest.objects.exclude(status="completed").exists())

    shown = company.request_object(redaction)
    counted = {name: count for name, count in shown["counts"].items() if count}
    assert counted == {"messages": 1, "files": 1, "exports": 1, "extracts": 1}
    assert events(redaction).count("request.completed") == 1
    assert found(storage) == set()
    assert list(Message.objects.exclude(pk=message_of(number).pk).order_by("pk").values()) == kept
    assert storage.exists(str(untouched.key))
    assert storage.exists(key_of_file(other))
    # The export is filed again once, and holds the rest.
    [again] = shown["redaction"]["removed_exports"]
    assert again["request_id"] == str(removed.request_id)
    assert KEPT in storage.read(company.request_object(again["repeated_by"])["export"]["key"]).decode()
    assert ComplianceRequest.objects.filter(kind="export").count() == 3
    assert list(storage.uploads()) == []
