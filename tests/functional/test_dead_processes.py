"""A process of a real cluster is killed or stopped: the cluster recovers, and work continues."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from uuid import UUID

import pytest

from chatbots.models import Chatbot
from common import proc
from common.storage import ObjectStorage
from compliance.cluster import notify
from compliance.models import Claim, ComplianceRequest, Heartbeat
from compliance.work import health
from scripts.processes import Processes, children_of
from tests import factories
from tests.clients import use_bucket_at
from tests.factories import conversation_of, deletion_of, export_of
from tests.functional.support import ROOT, manage, wait_until, worker_environment
from tests.hostile import behaving, drips_a_head

starts_clusters = pytest.mark.long(reason="clusters start, lose a process and start anew")

# Seconds are measured (docs/explanation/reliability.md); this machine may have other things to do.
SOON = 30.0


@dataclass
class Running:
    """A cluster: its first process and its output."""

    pid: int
    log: Path
    processes: Processes

    @property
    def guard(self) -> int:
        return children_of(self.pid)[0]

    def process(self, kind: str) -> int:
        """The process of a kind, of a cluster in which none was replaced."""
        if kind == "guard":
            return self.guard
        wait_until(lambda: len(children_of(self.guard)) == 4)
        return dict(zip(("worker", "other", "monitor", "pusher"), children_of(self.guard), strict=True))[kind]

    def log_text(self) -> str:
        return self.log.read_text()


@pytest.fixture
def running(tmp_path: Path, storage: ObjectStorage) -> Iterator[Running]:
    log = tmp_path / "cluster.log"
    with Processes() as processes:
        first = processes.start("cluster", manage("qcluster"), env=worker_environment(), log=log)
        wait_until(lambda: Heartbeat.objects.exists() and len(children_of(first.pid)) == 1)
        yield Running(first.pid, log, processes)


def are_gone(pids: list[int]) -> bool:
    return all(proc.began(pid) is None for pid in pids)


def work_is_done(chatbot: Chatbot) -> None:
    conversation_of(chatbot, "42")
    request = deletion_of(chatbot, "42")
    notify.notify_workers()
    wait_until(lambda: ComplianceRequest.objects.get(pk=request.pk).status == "completed", seconds=SOON)


@starts_clusters
@pytest.mark.parametrize(
    ("how", "kinds"),
    [(signal.SIGKILL, ["worker", "monitor", "pusher", "guard"]), (signal.SIGSTOP, ["worker", "guard"])],
    ids=["killed", "frozen"],
)
def test_a_cluster_that_loses_a_process_restarts(running, chatbot, how, kinds) -> None:
    for kind in kinds:
        guard = running.guard
        lost = running.process(kind)
        all_of_it = [guard, *children_of(guard)]

        os.kill(lost, how)

        wait_until(partial(are_gone, all_of_it), seconds=SOON)
        work_is_done(chatbot)
        assert running.guard != guard
    wait_until(lambda: "cluster_restarted" in [problem.code for problem in health.check().problems], seconds=SOON)
    assert "Traceback" not in running.log_text()
    assert running.processes.stop() == {"cluster": 0}


@pytest.fixture
def drips() -> Iterator[list[Chatbot]]:
    """Chatbots with buckets that answer a byte now and then, and what is to be written there."""
    with behaving(drips_a_head) as server:
        chatbots = [factories.ready_chatbot(slug=f"client-{number}") for number in range(4)]
        for each in chatbots:
            use_bucket_at(each, server.url())
            export_of(each, "42")
        yield chatbots


def claims_of_buckets() -> dict[UUID, str]:
    """Return the exports that are being written to clients' buckets, each with the process that does."""
    found = ComplianceRequest.objects.filter(claim__bucket_of__isnull=False).values_list("pk", "claim__owner")
    return dict(found)


@starts_clusters
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "frozen"])
def test_running_requests_of_a_lost_process_are_requeued_at_once(running, chatbot, drips, how) -> None:
    notify.notify_workers()
    wait_until(lambda: len(claims_of_buckets()) == len(drips), seconds=SOON)
    before = claims_of_buckets()
    lost = next(iter(before.values()))

    os.kill(int(lost.rpartition(":")[2]), how)

    wait_until(lambda: not set(claims_of_buckets().values()) & set(before.values()), seconds=SOON / 2)
    attempts = dict(ComplianceRequest.objects.filter(pk__in=before).values_list("pk", "attempts"))
    assert attempts == {request: int(owner == lost) for request, owner in before.items()}
    work_is_done(chatbot)
    wait_until(lambda: len(claims_of_buckets()) == len(drips), seconds=SOON)


@starts_clusters
def test_a_cluster_whose_threads_all_wait_stops_within_seconds(running: Running, drips: list[Chatbot]) -> None:
    notify.notify_workers()
    wait_until(lambda: len(claims_of_buckets()) == len(drips), seconds=SOON)
    began = time.monotonic()
    assert running.processes.stop(SOON) == {"cluster": 0}
    assert time.monotonic() - began < SOON / 2
    assert not Claim.objects.exists()
    left = ComplianceRequest.objects.filter(chatbot__in=drips)
    assert {(one.status, one.attempts) for one in left} == {("accepted", 0)}


@starts_clusters
def test_a_cluster_with_a_frozen_worker_stops_within_seconds(running: Running) -> None:
    os.kill(running.process("worker"), signal.SIGSTOP)
    began = time.monotonic()
    assert running.processes.stop(SOON) == {"cluster": 0}
    assert time.monotonic() - began < SOON / 2


@starts_clusters
def test_a_killed_parent_leaves_no_process(running: Running) -> None:
    all_of_it = [running.guard, *children_of(running.guard)]
    os.kill(running.pid, signal.SIGKILL)
    wait_until(partial(are_gone, all_of_it), seconds=SOON)


@starts_clusters
def test_a_stop_signal_to_all_processes_lets_workers_finish(running: Running, chatbot: Chatbot) -> None:
    work_is_done(chatbot)
    for pid in (running.guard, *children_of(running.guard), running.pid):
        os.kill(pid, signal.SIGTERM)
    assert running.processes.stop(SOON) == {"cluster": 0}
    assert "cluster.ends" not in running.log_text()


_FAILS = """
import django
django.setup()
from common import logs
from compliance.cluster import supervision

def fail():
    raise ValueError("Ada Lovelace")

logs.log_last_errors()
process = supervision._Process(target=fail)
process.start()
process.join()
print(process.exitcode)
fail()
"""


@pytest.mark.long(reason="starts a program")
def test_the_text_of_an_uncaught_error_is_not_printed() -> None:
    ended = subprocess.run(
        [sys.executable, "-c", _FAILS],
        cwd=ROOT,
        env={**worker_environment(), "DJANGO_SETTINGS_MODULE": "config.settings"},
        check=False,
        capture_output=True,
        text=True,
    )
    assert (ended.stdout, ended.returncode) == ("1\n", 1)
    assert ended.stderr.count("builtins.ValueError") == 2
    assert "Ada" not in ended.stderr.replace('raise ValueError("Ada Lovelace")', "")
