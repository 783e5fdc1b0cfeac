"""A real cluster is killed with SIGKILL in the middle of many exports; another one finishes them."""

import csv
import io
from collections import Counter

import pytest
from django.utils import timezone

from chatbots.models import ChangeLogEntry, Chatbot
from common.storage import ObjectStorage
from compliance.ledger import objects
from compliance.models import Claim, ComplianceRequest, Export
from compliance.work import notify
from scripts.processes import Processes
from tests.compliance.exporting import open_uploads
from tests.factories import conversation_of, export_of
from tests.functional.test_killed_worker import start_cluster, wait_until

EXPORTS = 150  # more than one claim takes

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.long(reason="two clusters write 150 exports")]


def exported(storage: ObjectStorage) -> list[str]:
    return sorted(key for key in storage.keys("") if not key.startswith(objects.PREFIX))


def test_another_worker_delivers_each_export_once(chatbot: Chatbot, storage: ObjectStorage) -> None:
    for number in range(EXPORTS):
        conversation_of(chatbot, f"member-{number}", messages=2, text=f"said by {number}")
    requests = [export_of(chatbot, f"member-{number}") for number in range(EXPORTS)]
    notify.notify_workers()
    completed = ComplianceRequest.objects.filter(status="completed")

    with Processes() as processes:
        start_cluster(processes)
        wait_until(completed.exists)
        processes.kill("worker")
        done = completed.count()
        assert 0 < done < EXPORTS, "it was killed too late to show anything"
        left = Export.objects.filter(finished_at__isnull=True, key__isnull=False).count()
        assert left > 0, "it was killed between two claims"
        # Every object of the killed worker in the bucket has a row.
        assert {*exported(storage), *open_uploads(storage)} <= set(Export.objects.values_list("key", flat=True))

        # Simulate the passing of two minutes, and the next sweep.
        Claim.objects.update(expires_at=timezone.now())
        notify.notify_workers()
        start_cluster(processes)
        wait_until(lambda: completed.count() == EXPORTS, seconds=120)

    events = Counter(ChangeLogEntry.objects.filter(event="request.completed").values_list("request_id", flat=True))
    assert events == {request.pk: 1 for request in requests}
    exports = {export.request_id: export for export in Export.objects.all()}
    assert exported(storage) == sorted(str(export.key) for export in exports.values())
    assert open_uploads(storage) == []
    for number, request in enumerate(requests):
        text = io.StringIO(storage.read(str(exports[request.pk].key)).decode(), newline="")
        assert [line["text"] for line in csv.DictReader(text)] == [f"said by {number}"] * 2
