"""A process that builds an extract is killed with SIGKILL at each step; another builds it, and leaves one version."""

import subprocess
import sys

import pytest
from django.utils import timezone

from chatbots.models import Chatbot
from compliance import worker
from conversations.extracts import leases
from conversations.models import DailyExtract
from tests.extracting import conversation_on, extract_of, lines, make_all, noon, planned, versioned_bucket
from tests.factories import deletion_of
from tests.functional.support import ROOT, worker_environment

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
