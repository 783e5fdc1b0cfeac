"""Processes are killed with SIGKILL: one that builds an extract, at each step; a cluster, amid a redaction."""

import subprocess
import sys
from collections.abc import Iterator
from uuid import UUID

import pytest
from django.utils import timezone
from pytest_django import Settings

from chatbots.buckets import hosted_storage
from chatbots.models import Chatbot
from compliance import worker
from compliance.ledger import journal
from compliance.models import ComplianceRequest
from conversations.extracts import leases
from conversations.models import DailyExtract, Message
from scripts.processes import Processes
from tests.extracting import conversation_on, extract_of, lines, make_all, noon, planned, versioned_bucket
from tests.factories import deletion_of
from tests.functional.company import Company, events, key_of_file
from tests.functional.redacting import KEPT, PICTURE, SECRET, found, message_of, redact, talk
from tests.functional.support import ROOT, start_cluster, wait_until, worker_environment
from tests.s3_server import ADMIN, S3Server, running

# Kills itself before or after the first call of a method.
_SCRIPT = """
import os, signal, sys
import django
django.setup()
from common.storage import ObjectStorage
from compliance.erasure import extracts
from conversations.extracts import leases

owner, name, when = sys.argv[1:]
owner = {"ObjectStorage": ObjectStorage, "leases": leases}[owner]
original = getattr(owner, name)

def step(*args, **options):
    if when == "after":
        original(*args, **options)
    os.kill(os.getpid(), signal.SIGKILL)

setattr(owner, name, step)
extracts.build_next(settled=False)
"""

STEPS = [
    ("leases", "record", "after"),
    ("ObjectStorage", "open_upload", "after"),
    ("ObjectStorage", "_send_parts", "after"),
    ("ObjectStorage", "write_parts", "after"),
    ("ObjectStorage", "purge_older", "after"),
    ("leases", "finish", "after"),
]
# Between these the upload is complete, and the row does not know it.
_ALWAYS = STEPS[3]
_EACH_STEP = pytest.mark.long(reason="another process for each step; one is always killed")


@pytest.mark.parametrize(
    "step", [pytest.param(step, marks=[] if step == _ALWAYS else _EACH_STEP) for step in STEPS], ids=" ".join
)
def test_another_builds_the_extract_and_leaves_one_version(chatbot: Chatbot, step: tuple[str, str, str]) -> None:
    with versioned_bucket() as storage:
        conversation_on(chatbot, "alice", noon(), text="words of alice")
        conversation_on(chatbot, "bob", noon(), text="words of bob")
        planned(chatbot)
        make_all()
        request = deletion_of(chatbot, "alice")
        DailyExtract.objects.update(state="stale")

        killed = subprocess.run(
            [sys.executable, "-c", _SCRIPT, *step],
            cwd=ROOT,
            env={**worker_environment(), "DJANGO_SETTINGS_MODULE": "config.settings"},
            check=False,
            capture_output=True,
        )
        assert killed.returncode == -9, killed.stderr
        # Simulate the passing of two minutes.
        DailyExtract.objects.filter(token__isnull=False).update(next_attempt_at=timezone.now())
        leases.requeue_expired()

        assert not worker.drain()
        request.refresh_from_db()
        extract = extract_of(chatbot)
        assert (request.status, extract.state) == ("completed", "done")
        assert [line["text"] for line in lines(storage, extract)] == ["words of bob"]
        assert len([one for one in storage.versions() if "extract" in one.key]) == 1
        uploads = storage.client.list_multipart_uploads(Bucket=storage.bucket_name)
        assert uploads.get("Uploads", []) == []


# --- A cluster -------------------------------------------------------------------------------------------


@pytest.fixture
def server(settings: Settings) -> Iterator[S3Server]:
    """The operator's storage, which can be paused."""
    with running() as server:
        settings.S3_ENDPOINT_URL = settings.S3_PUBLIC_ENDPOINT_URL = server.endpoint
        settings.S3_ACCESS_KEY_ID, settings.S3_SECRET_ACCESS_KEY = ADMIN.access_key, ADMIN.secret_key
        settings.S3_BUCKET = server.s3.bucket
        yield server


@pytest.mark.long(reason="two clusters and a storage of its own")
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
