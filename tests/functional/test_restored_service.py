"""A cluster that runs while its database is put back notices by itself, and does nothing any more."""

import json
import subprocess
import time
from datetime import UTC, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from django.contrib.sessions.models import Session
from django.utils import timezone

from chatbots.models import Chatbot
from common.storage import ObjectStorage
from compliance.ledger import content, objects, service
from compliance.ledger.content import Header
from compliance.ledger.service import Reason, State
from compliance.models import Claim, ComplianceRequest, Heartbeat, LedgerObject, Service
from compliance.work import notify
from conversations.models import Conversation
from scripts.processes import Processes
from tests.factories import conversation_of, deletion_of, export_of
from tests.functional.support import ROOT, manage, worker_environment
from tests.functional.test_killed_worker import wait_until

pytestmark = pytest.mark.long(reason="a cluster of workers and some of its beats")


def status(request: ComplianceRequest) -> str:
    return str(ComplianceRequest.objects.values_list("status", flat=True).get(pk=request.pk))


def health() -> tuple[int, dict[str, Any]]:
    argv, env = manage("health", "--json"), worker_environment()
    ended = subprocess.run(argv, cwd=ROOT, env=env, capture_output=True, text=True, timeout=60, check=False)
    return ended.returncode, json.loads(ended.stdout)


def recover(storage: ObjectStorage) -> None:
    """Put the database back to before all that the ledger knows, some of it hours old, on another timeline."""
    at = timezone.now().astimezone(UTC) - timedelta(hours=3)
    key = f"{objects.folder()}{at:%Y/%m/%d/%H%M%S}-{uuid4()}.jsonl"
    ours = service.current()
    sealed = content.seal(Header(key, ours.service_id, ours.incarnation, at), [])
    storage.put(key, sealed, content_type=objects.CONTENT_TYPE)
    LedgerObject.objects.all().delete()
    Service.objects.update(timeline=77)


def test_a_running_cluster_takes_nothing_more(chatbot: Chatbot, storage: ObjectStorage, tmp_path: Path) -> None:
    first, second = (conversation_of(chatbot, value) for value in ("42", "43"))
    log = tmp_path / "worker.log"
    with Processes() as processes:
        processes.start("worker", manage("qcluster"), env=worker_environment(), log=log)
        done = deletion_of(chatbot, "42")
        notify.notify_workers()
        wait_until(lambda: status(done) == "completed")
        Session.objects.create(session_key="s" * 32, session_data="", expire_date=timezone.now() + timedelta(days=1))

        recover(storage)
        notify.notify_workers()
        wait_until(lambda: service.state() == "restored")
        left = deletion_of(chatbot, "43")
        notify.notify_workers()

        beat = Heartbeat.objects.get().seen_at
        wait_until(lambda: Heartbeat.objects.get().seen_at > beat)
        assert status(left) == "accepted"
        assert not Claim.objects.exists()
        assert not Session.objects.exists()
        code, document = health()
        assert code == 1
        assert [problem["code"] for problem in document["problems"]] == ["restored_database"]

        service.begin_incarnation()
        wait_until(lambda: status(left) == "completed")
    erased = Conversation.objects.exclude(deleted_at=None)
    assert {first.pk, second.pk} == set(erased.values_list("pk", flat=True))
    assert log.read_text().count("service.restored") == 1


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
