"""A cluster that runs while its database is put back does nothing any more."""

import time
from typing import Any

import pytest

from compliance.cluster import notify
from compliance.ledger import service
from compliance.ledger.service import Reason, State
from compliance.models import Claim, ComplianceRequest
from conversations.models import Conversation
from scripts.processes import Processes
from tests.factories import conversation_of, deletion_of, export_of
from tests.functional.support import manage, worker_environment
from tests.functional.test_killed_worker import wait_until

pytestmark = pytest.mark.long(reason="a cluster of workers and some of its beats")


def test_workers_at_work_write_nothing_more_once_it_is_closed(chatbot, storage, tmp_path) -> None:
    """Closed and opened again and again, in the middle of whatever they do."""
    service.current()
    log = tmp_path / "worker.log"
    with Processes() as processes:
        processes.start("worker", manage("qcluster"), env=worker_environment() | {"WORKERS": "4"}, log=log)
        for round_number in range(20):
            for number in range(15):
                value = f"{round_number}-{number}"
                conversation_of(chatbot, value)
                (deletion_of if number % 3 else export_of)(chatbot, value)
            notify.notify_workers()
            time.sleep(0.25)
            service.trip(State.RESTORED, Reason.OTHER_SERVER)
            closed = written()
            time.sleep(0.1)
            assert written() == closed
            assert not Claim.objects.exists()
            service.begin_incarnation()
        notify.notify_workers()
        wait_until(lambda: not ComplianceRequest.objects.exclude(status="completed").exists())
    text = log.read_text()
    assert "claim.lost" in text  # some were in the middle of it
    assert "deadlock" not in text


def written() -> list[Any]:
    requests = ComplianceRequest.objects.order_by("seq").values_list("id", "status", "messages")
    return [*requests, *Conversation.objects.order_by("pk").values_list("pk", "deletion_request_id", "deleted_at")]
