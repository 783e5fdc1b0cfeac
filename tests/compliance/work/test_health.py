"""The health of the service: clusters, waiting requests, the sweep. For `manage.py health` and the console."""

import json
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from django.utils import timezone
from django_q.models import OrmQ, Task

from chatbots.models import Bucket, BucketCredential, Chatbot, SilentStorage
from common import proc
from compliance import tasks
from compliance.cluster import broker, heartbeats, notify, occurrences
from compliance.cluster.heartbeats import Condition
from compliance.models import ComplianceRequest, Heartbeat, Occurrence
from compliance.work import health
from tests.commands import run
from tests.factories import BucketCredentialFactory, ClaimFactory, deletion_of, export_of

pytestmark = pytest.mark.usefixtures("no_tasks")

MINUTE = timedelta(minutes=1)
SECOND = timedelta(seconds=1)


@pytest.fixture(autouse=True)
def _no_beat_before() -> None:
    heartbeats._last_beat.clear()


@pytest.fixture(autouse=True)
def _sweep_has_run(db: None) -> None:
    occurrences.note(Occurrence.Name.SWEEP)


def cluster(
    name: str = "host:7", *, seen: timedelta = SECOND, worked: timedelta | None = MINUTE, **fields: Any
) -> Heartbeat:
    now = timezone.now()
    return Heartbeat.objects.create(
        id=uuid4(),
        name=name,
        version="1",
        workers=2,
        started_at=now - timedelta(hours=1),
        seen_at=now - seen,
        worked_at=None if worked is None else now - worked,
        **fields,
    )


def waiting(chatbot: Chatbot, age: timedelta, **fields: Any) -> ComplianceRequest:
    return deletion_of(chatbot, "42", queued_at=timezone.now() - age, **fields)


def codes() -> list[str]:
    return [problem.code for problem in health.check().problems]


def health_command() -> tuple[int, dict[str, Any]]:
    code, out, _ = run("health", "--json")
    return code, json.loads(out)


def test_health_is_ok_while_a_cluster_works_and_nothing_waits_long(chatbot: Chatbot) -> None:
    cluster()
    waiting(chatbot, MINUTE, claim=ClaimFactory.create())
    waiting(chatbot, MINUTE)

    code, document = health_command()

    assert (code, document["well"], document["problems"]) == (0, True, [])
    assert [one["condition"] for one in document["clusters"]] == ["alive"]
    assert 60 <= document["oldest_waiting_seconds"] < 120
    assert run("health")[1].endswith("All is well.\n")


def test_it_ends_with_1_and_names_each_problem(chatbot: Chatbot) -> None:
    cluster(seen=3 * MINUTE)
    waiting(chatbot, 11 * MINUTE)
    Occurrence.objects.update(last_at=timezone.now() - 4 * MINUTE)
    ClaimFactory.create(expires_at=timezone.now() - 2 * MINUTE)

    code, document = health_command()

    assert code == 1
    assert [one["code"] for one in document["problems"]] == [
        "no_cluster",
        "work_waits",
        "sweep_late",
        "claims_expired",
    ]
    assert document["expired_claims"] == 1


def test_a_cluster_whose_workers_take_up_nothing_is_stalled() -> None:
    cluster(worked=11 * MINUTE)
    assert codes() == ["cluster_stalled"]
    # With two clusters, either may get the minute's task.
    cluster("host:8", worked=None)
    conditions = {one.beat.name: one.condition for one in health.check().clusters}
    assert conditions == {"host:7": Condition.ALIVE, "host:8": Condition.STALLED}


def test_a_missing_cluster_is_reported_for_a_while() -> None:
    cluster()
    gone = cluster("host:8", seen=MINUTE)
    cluster("host:9", seen=MINUTE, stopped_at=timezone.now())
    cluster("host:10", seen=MINUTE, died_at=timezone.now())

    assert codes() == ["cluster_gone"]
    assert "host:8" in health.check().problems[0].detail
    Heartbeat.objects.filter(pk=gone.pk).update(seen_at=timezone.now() - 11 * MINUTE)
    assert codes() == []


def test_work_waiting_for_a_minute_while_no_worker_is_busy_is_reported(chatbot: Chatbot) -> None:
    cluster()
    waiting(chatbot, 2 * MINUTE)
    assert codes() == ["workers_idle"]
    claim = ClaimFactory.create()
    assert codes() == []
    claim.delete()
    ComplianceRequest.objects.all().delete()
    notify.notify_workers()
    OrmQ.objects.update(lock=timezone.now() - 2 * MINUTE)
    assert codes() == ["workers_idle"]


@pytest.mark.parametrize(
    ("ago", "expected"),
    [
        # Workers rest: that none is busy says nothing.
        (5 * SECOND, ["database_refused"]),
        (20 * SECOND, ["database_refused", "workers_idle"]),
        (9 * MINUTE, ["database_refused", "workers_idle"]),
        (11 * MINUTE, ["workers_idle"]),
    ],
)
def test_a_refusal_of_the_database_is_reported_for_a_while(chatbot, ago, expected) -> None:
    cluster()
    waiting(chatbot, 2 * MINUTE)
    occurrences.note(Occurrence.Name.DATABASE_REFUSED)
    Occurrence.objects.filter(name="database_refused").update(last_at=timezone.now() - ago)
    assert codes() == expected


def test_a_request_waiting_for_an_earlier_one_is_not_stalled(chatbot: Chatbot) -> None:
    cluster()
    waiting(chatbot, 3 * MINUTE, not_before=timezone.now() + MINUTE)
    waiting(chatbot, 2 * MINUTE)
    assert health.oldest_waiting().is_blocked
    assert codes() == []


def test_a_sweep_that_never_ran_is_late_some_minutes_after_the_clusters_began() -> None:
    Occurrence.objects.all().delete()
    new = cluster()
    assert codes() == ["sweep_late"]
    Heartbeat.objects.filter(pk=new.pk).update(started_at=timezone.now() - MINUTE)
    assert codes() == []


def test_a_restart_and_foreign_tasks_are_reported_for_a_while() -> None:
    cluster()
    occurrences.note(Occurrence.Name.CLUSTER_RESTARTED)
    occurrences.note(Occurrence.Name.UNEXPECTED_TASK)
    assert codes() == ["cluster_restarted", "unexpected_task"]
    Occurrence.objects.exclude(name="sweep").update(last_at=timezone.now() - timedelta(hours=25))
    assert codes() == []


def test_heartbeats_are_written_at_intervals_and_an_end_at_once() -> None:
    beat = {"cluster_id": uuid4(), "name": "host:7", "workers": 2}
    heartbeats.seen(**beat, stopped=False)
    first = Heartbeat.objects.get()
    Heartbeat.objects.update(version="old")
    heartbeats.seen(**beat, stopped=False)
    assert Heartbeat.objects.get().version == "old"

    heartbeats.seen(**beat, stopped=True)

    last = Heartbeat.objects.get()
    assert last.started_at == first.started_at
    assert [one.condition for one in health.check().clusters] == [Condition.STOPPED]
    Heartbeat.objects.update(seen_at=timezone.now() - timedelta(days=2))
    heartbeats.seen(**beat | {"cluster_id": uuid4()}, stopped=True)
    assert Heartbeat.objects.count() == 1, "what is long gone goes"


def test_a_cluster_wrongly_taken_for_dead_is_alive_once_it_beats(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on systems that hide other users' processes."""
    beat = {"cluster_id": uuid4(), "name": "host:7", "workers": 2}
    heartbeats.seen(**beat, stopped=False)
    heartbeats.record_cleanup(beat["cluster_id"])
    assert health.check().alive == 0
    heartbeats._last_beat.clear()
    heartbeats.seen(**beat, stopped=False)
    assert health.check().alive == 1


def test_a_task_is_a_sign_of_its_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    name = proc.cluster()
    ours, other = cluster(name, worked=None), cluster(f"{name}1", worked=None)

    tasks.deliver_callbacks()

    ours.refresh_from_db()
    other.refresh_from_db()
    assert ours.worked_at is not None
    assert other.worked_at is None


def test_only_ready_requests_count_as_waiting(chatbot: Chatbot, neighbour: Chatbot) -> None:
    now = timezone.now()
    waiting(chatbot, 9 * MINUTE, not_before=now + MINUTE)  # its time has not come
    waiting(chatbot, 8 * MINUTE, claim=ClaimFactory.create())
    waiting(chatbot, 7 * MINUTE, status="on_hold", hold_reason="export_pending", held_at=now)
    backed_off = waiting(chatbot, 6 * MINUTE, not_before=now - MINUTE, lane="isolated")
    assert health.oldest_waiting().request_id == backed_off.pk
    oldest = export_of(chatbot, "43", queued_at=now - 5 * MINUTE)
    theirs = waiting(neighbour, 6 * MINUTE, lane="large")

    assert health.oldest_waiting().request_id == theirs.pk
    scoped = health.oldest_waiting([chatbot.pk])
    assert scoped.request_id == oldest.pk
    assert 5 * MINUTE <= scoped.age < 6 * MINUTE
    assert health.oldest_waiting([]) is None


def test_claims_are_those_with_requests_of_the_chatbots_asked_about(chatbot: Chatbot, neighbour: Chatbot) -> None:
    mixed, theirs = ClaimFactory.create(), ClaimFactory.create()
    for owner, claim in ((chatbot, mixed), (neighbour, mixed), (neighbour, theirs)):
        deletion_of(owner, "42", claim=claim)

    assert [(one.id, one.requests) for one in health.check().claims] == [(mixed.pk, 2), (theirs.pk, 1)]
    assert [(one.id, one.requests) for one in health.check(chatbots=[chatbot.pk]).claims] == [(mixed.pk, 1)]


def test_failed_tasks_are_listed_by_name_and_time_and_waiting_ones_counted() -> None:
    now = timezone.now()
    for number, func in enumerate(("compliance.tasks.drain", "compliance.tasks.sweep")):
        Task.objects.create(
            id=f"{number:032}",
            name="made-up",
            func=func,
            started=now + number * MINUTE,
            stopped=now,
            success=False,
            result="a text of a library",
        )
    notify.notify_workers()

    assert [one.name for one in broker.failed_tasks()] == ["sweep", "drain"]
    assert "library" not in repr(broker.failed_tasks())
    assert notify.tasks_waiting()[0] == 1
    OrmQ.objects.all().delete()
    assert notify.tasks_waiting() == (0, None)


def test_it_names_the_buckets_that_do_not_answer_and_what_waits(chatbot, neighbour) -> None:
    cluster()
    Bucket.objects.filter(chatbot=chatbot).update(
        hosting="client", bucket="theirs", region="us-east-1", access_key_id="key-id", secret_encrypted="unused"
    )
    now = timezone.now()
    for silent in (chatbot, None):
        SilentStorage.objects.create(chatbot=silent, since=now - MINUTE, rests_until=now + MINUTE)
    for value in ("42", "43"):
        export_of(chatbot, value, queued_at=now - 11 * MINUTE)
    export_of(neighbour, "42", queued_at=now - 11 * MINUTE)

    code, document = health_command()

    assert code == 1
    hosted, problem = document["problems"]
    assert (hosted["code"], problem["code"]) == ("storage_silent", "bucket_silent")
    assert "bucket of acme" in problem["detail"]
    assert "2 requests and 0 daily extracts wait" in problem["detail"]
    assert not {"key-id", "theirs"} & set(problem["detail"].split())
    shown = [[one.slug for one in health.check(chatbots=[each.pk]).silent] for each in (chatbot, neighbour)]
    assert shown == [[None, "acme"], [None]], "to members of its chatbot"


def test_interrupted_credentials_are_reported_to_members_of_their_chatbot(chatbot, neighbour) -> None:
    cluster()
    long_ago = timezone.now() - 11 * MINUTE
    BucketCredentialFactory.create(chatbot=neighbour)
    credential = BucketCredentialFactory.create(chatbot=chatbot, active_at=None)
    assert codes() == []
    BucketCredential.objects.filter(pk=credential.pk).update(created_at=long_ago)
    assert codes() == ["credentials_interrupted"]
    BucketCredential.objects.filter(pk=credential.pk).update(active_at=long_ago)
    assert codes() == []
    BucketCredential.objects.filter(pk=credential.pk).update(revoking_at=long_ago)

    [problem] = health.check(chatbots=[chatbot.pk]).problems

    assert (problem.code, "bucket of acme was" in problem.detail) == ("credentials_interrupted", True)
    assert health.check(chatbots=[neighbour.pk]).problems == []
    BucketCredential.objects.filter(pk=credential.pk).update(revoked_at=long_ago)
    assert codes() == []
