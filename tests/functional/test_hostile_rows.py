"""Rows written into the queue's tables run no code: not in workers, nor in the console, nor in commands."""

import base64
import os
import pickle
from pathlib import Path
from typing import Any

import pytest
from django.contrib import admin
from django.db import connection
from django.test import Client
from django.urls import reverse
from django.utils import timezone
from django_q.models import OrmQ, Schedule, Task
from django_q.signing import SignedPackage

from compliance.cluster import notify
from compliance.models import Heartbeat, Occurrence
from compliance.work import health
from scripts.processes import Processes
from tests.commands import run
from tests.functional.support import manage, wait_until, worker_environment
from tests.functional.test_dead_processes import work_is_done


class Bomb:
    """Makes a folder when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self._path = str(path)

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (self._path,)


@pytest.fixture
def traces(tmp_path: Path) -> Path:
    """Where something appears if hostile code was run."""
    folder = tmp_path / "traces"
    folder.mkdir()
    return folder


def insert(table: str, **values: Any) -> None:
    columns = ", ".join(values)
    with connection.cursor() as cursor:
        cursor.execute(
            f"INSERT INTO {table} ({columns}) VALUES ({', '.join(['%s'] * len(values))})", list(values.values())
        )


def write_into_the_queue(traces: Path) -> int:
    """Write rows like an attacker who knows the signing key; return how many cannot be ours."""
    task = {"id": "1", "name": "x", "func": "os.mkdir", "args": (str(traces / "signed"),), "kwargs": {}}
    payloads = [
        "os.mkdir",
        "compliance.tasks.drain",
        base64.b64encode(pickle.dumps(Bomb(traces / "unsigned"))).decode(),
        SignedPackage.dumps(Bomb(traces / "signed-bomb")),
        SignedPackage.dumps(task | {"started": timezone.now()}),
    ]
    for key in (notify.KEY, "data-compliance"):
        for payload in payloads:
            insert("django_q_ormq", key=key, payload=payload, lock=timezone.now())
    for number, cluster in enumerate((None, "data-compliance", notify.KEY)):
        insert(
            "django_q_schedule",
            func="os.mkdir",
            hook="os.rmdir",
            args=repr((str(traces / f"scheduled-{number}"),)),
            kwargs="{'q_options': {'hook': 'os.mkdir'}}",
            schedule_type=Schedule.ONCE,
            repeats=-1,
            next_run=timezone.now(),
            cluster=cluster,
        )
    return 2 * len(payloads) + 3


def write_a_result(traces: Path) -> None:
    bombs = {
        name: base64.b64encode(pickle.dumps(Bomb(traces / name))).decode() for name in ("args", "kwargs", "result")
    }
    now = timezone.now()
    insert(
        "django_q_task",
        **bombs,
        id="0" * 32,
        name="drain",
        func="os.mkdir",
        hook="os.mkdir",
        started=now,
        stopped=now,
        success=False,
        attempt_count=1,
    )


@pytest.mark.long(reason="a cluster is started")
def test_workers_run_only_our_tasks_and_report_others(chatbot, storage, traces, tmp_path) -> None:
    foreign = write_into_the_queue(traces)
    write_a_result(traces)
    log = tmp_path / "cluster.log"
    with Processes(stop_timeout=0) as processes:
        processes.start("cluster", manage("qcluster"), env=worker_environment(), log=log)
        wait_until(Heartbeat.objects.exists)
        work_is_done(chatbot)
        wait_until(lambda: health.check().last[Occurrence.Name.UNEXPECTED_TASK].times == foreign)

    assert list(traces.iterdir()) == []
    assert not Schedule.objects.exists()
    assert not OrmQ.objects.exclude(key=notify.KEY, payload__in=notify.TASKS).exists()
    assert "unexpected_task" in [problem.code for problem in health.check().problems]
    text = log.read_text()
    assert text.count("queue.unexpected_task") >= 6
    assert "mkdir" not in text


def test_no_page_and_no_command_unpickles_rows(admin_client: Client, storage: object, traces: Path) -> None:
    write_into_the_queue(traces)
    write_a_result(traces)

    assert admin_client.get("/admin/django_q/failure/").status_code == 404
    assert "django_q" not in {model._meta.app_label for model in admin.site._registry}
    for page in ("console:workers", "console:dashboard"):
        assert admin_client.get(reverse(page)).status_code == 200
    for command in (["dumpdata", "django_q"], ["process_requests"], ["qinfo"]):
        run(*command)
    Task.objects.get().refresh_from_db()
    Task.objects.values("args", "kwargs", "result")[0]

    assert list(traces.iterdir()) == []
