"""A dead cluster is recognised by its process, and its work is requeued at once."""

import os
import signal
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from django.utils import timezone

from chatbots.models import ChangeLogEntry, Chatbot
from common import proc
from compliance import tasks
from compliance.cluster import heartbeats
from compliance.cluster.supervision import Duties, Guard, _Board
from compliance.models import Claim, ComplianceRequest, Heartbeat
from compliance.work import claims
from conversations.models import DailyExtract
from tests.factories import ClaimFactory, deletion_of

NOBODY = 2**22 + 1  # larger than any pid


def beat(name: str, pid: int, *, seen: int = 0, began: int | None = None, **fields: Any) -> None:
    now = timezone.now()
    Heartbeat.objects.create(
        id=uuid4(),
        name=name,
        version="1",
        workers=2,
        started_at=now,
        seen_at=now - timedelta(seconds=seen),
        pid=pid,
        began=proc.began(os.getpid()) if began is None else began,
        **{"pid_scope": proc.pid_scope()} | fields,
    )


def dead(**options: Any) -> list[str]:
    return sorted(name for _, name in heartbeats.find_dead(**options))


def test_a_cluster_is_dead_if_its_process_is_gone_or_its_pid_reused() -> None:
    beat("lives", os.getpid(), seen=60)
    beat("gone", NOBODY, seen=60, began=7)
    beat("number-taken", os.getpid(), seen=60, began=7)
    beat("elsewhere", NOBODY, seen=60, pid_scope="another machine or container")
    beat("unknown", NOBODY, seen=60, pid_scope="")
    beat("stopped", NOBODY, seen=60, stopped_at=timezone.now())
    beat("cleared-up", NOBODY, seen=60, died_at=timezone.now())

    assert dead() == ["gone", "number-taken"]


def test_the_successor_of_a_dead_cluster_cleans_up_first() -> None:
    beat("gone", NOBODY, began=7)
    assert dead() == []
    assert dead(former="gone") == ["gone"]
    assert dead(at_once=True) == ["gone"]


@pytest.fixture
def done() -> list[Any]:
    return []


@pytest.fixture
def guard(done: list[Any]) -> Iterator[Guard]:
    """A guard that has started no process, and lists in `done` which of its duties it did."""

    def requeue(name: str, blamed: str | None) -> bool:
        done.append((name, blamed))
        return True

    handlers = {each: signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)}
    duties = Duties(
        requeue_from_cluster=requeue,
        requeue_expired=lambda: done.append("expired"),
        enqueue_due_work=lambda: done.append("due"),
        enqueue_due_journal=lambda: done.append("journal"),
    )
    yield Guard(uuid4(), _Board(), None, duties)
    for each, handler in handlers.items():
        signal.signal(each, handler)


def test_a_guard_does_all_its_duties(guard: Guard, done: list[Any]) -> None:
    beat("gone", NOBODY, began=7)
    guard.status()
    guard.status()
    assert done == [("gone", None), "expired", "due", "journal"]
    assert dead(at_once=True) == [], "It is cleared up after."


def test_only_running_requests_of_the_lost_worker_lose_an_attempt(chatbot: Chatbot) -> None:
    lost, innocent, other = (
        deletion_of(
            chatbot,
            value,
            status="processing",
            started_at=timezone.now(),
            attempts=attempts,
            claim=ClaimFactory.create(owner=owner),
        )
        for value, owner, attempts in (
            ("42", "host:7-ab:8", 1),
            ("43", "host:7-ab:9", claims.MAX_ATTEMPTS),
            ("44", "host:7-abc:8", 1),
        )
    )

    assert tasks.requeue_from_cluster("host:7-ab", "host:7-ab:8")

    found = {one.pk: one for one in ComplianceRequest.objects.all()}
    assert [(found[one.pk].attempts, found[one.pk].lane) for one in (lost, innocent)] == [
        (2, "isolated"),
        (claims.MAX_ATTEMPTS, "normal"),
    ]
    # Nor has the innocent one failed, or an error.
    assert [found[innocent.pk].error_code, found[innocent.pk].error_detail, found[innocent.pk].failed_at] == [
        "",
        "",
        None,
    ]
    assert [found[one.pk].status for one in (lost, innocent, other)] == ["accepted", "accepted", "processing"]
    assert Claim.objects.get().pk == other.claim_id
    codes = {entry.request_id: entry.data["code"] for entry in ChangeLogEntry.objects.all()}
    assert codes == {lost.pk: "worker_lost", innocent.pk: "cluster_ended"}


def test_pids_are_compared_only_within_one_boot_and_container() -> None:
    started = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    container = Path("/proc/self/ns/pid").readlink()
    assert proc.pid_scope() == f"{started} {container}"


@pytest.mark.parametrize(("blamed", "attempts"), [("host:7-ab:8", 1), ("host:7-ab:0", 0), (None, 1)])
def test_a_day_being_built_is_released(chatbot: Chatbot, blamed: str | None, attempts: int) -> None:
    now = timezone.now()
    DailyExtract.objects.create(
        chatbot=chatbot,
        day=now.date(),
        starts_at=now,
        ends_at=now + timedelta(days=1),
        token=uuid4(),
        next_attempt_at=now + timedelta(seconds=60),
        owner="host:7-ab:8",
    )
    tasks.requeue_from_cluster("host:7-abc", blamed)
    assert DailyExtract.objects.get().token
    tasks.requeue_from_cluster("host:7-ab", blamed)
    day = DailyExtract.objects.get()
    assert (day.token, day.next_attempt_at <= timezone.now(), day.attempts) == (None, True, attempts)
