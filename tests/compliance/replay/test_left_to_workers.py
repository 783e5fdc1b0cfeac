"""What a replay leaves to the workers: what needs a client's bucket, and what meets an error."""

from uuid import uuid4

import pytest

from common.storage import StorageError
from compliance import worker
from compliance.erasure import engine
from compliance.models import ComplianceRequest, Service
from compliance.replay import runner
from compliance.work import scheduling
from compliance.work.transitions import requeue
from conversations.models import Conversation
from tests.compliance.replay.conftest import became_of, gone, replay, sweep_and_work, work, write_journal
from tests.compliance.replay.test_whole_replays import told
from tests.functional.company import Company
from tests.patches import before, failing
from tests.restoring import Backup, notice, restored


@pytest.mark.django_db(transaction=True)
@pytest.mark.long(reason="a storage of the client's own")
def test_what_needs_a_clients_bucket_waits_for_the_workers(chatbot, storage, clients) -> None:
    company = Company(chatbot)
    number = company.talk("c-1", "alice")
    export = company.export("alice")
    assert not worker.drain(seconds=30)
    # Half of a file is in the client's bucket.
    request = ComplianceRequest.objects.get(pk=export)
    type(request.export).objects.filter(pk=request.export.pk).update(finished_at=None, rows=None, sha256="")
    ComplianceRequest.objects.filter(pk=export).update(
        status="failed", error_code="x", failed_at=request.completed_at, completed_at=None, result=None
    )
    with restored():
        deletion = company.delete("alice")
        ComplianceRequest.objects.filter(pk=deletion).update(approved_holds=["export_pending"])
        work()
        assert company.status(deletion) == "completed"

    report = replay()

    assert became_of(report) == {deletion: "left"}
    assert report["requests"][0]["waits_for"] == "client_bucket"
    assert (gone(number), Service.objects.get().state) == ([True], "open")
    assert company.status(deletion) == "accepted"
    work()
    assert company.status(deletion) == "completed"


def test_what_meets_an_error_is_closed_and_goes_on_later(chatbot, storage, monkeypatch) -> None:
    company = Company(chatbot)
    number = company.talk("c-1", "alice", has_file=True)
    with restored():
        deletion = company.delete("alice")
        work()
    monkeypatch.setattr(runner, "PATIENCE_SECONDS", 0.0)

    with monkeypatch.context() as patched:
        patched.setattr(
            type(storage), "purge_many", failing(StorageError("storage_error", "It has an error.", retryable=True))
        )
        last = told(code=3).splitlines()[-1]

    assert "1 request has met an error" in last
    assert "retry_request" in last
    assert Conversation.objects.get(pk=number).is_closed
    ComplianceRequest.objects.update(not_before=None)
    work()
    assert (company.status(deletion), gone(number)) == ("completed", [True])


def test_one_that_cannot_be_erased_stops_no_other(chatbot, storage, monkeypatch) -> None:
    company, people = Company(chatbot), ("alice", "bob", "carol", "dora", "emil")
    numbers = [company.talk(f"c-{person}", person) for person in people]
    with restored():
        deletions = [company.delete(person) for person in people]
        work()
    for module in (scheduling, requeue):
        monkeypatch.setattr(module, "SPLIT_SIZE", 2)
    sizes: list[int] = []

    def refuses_bob(run: engine.ErasureRun) -> None:
        sizes.append(len(run._active))
        if any(str(one) == deletions[1] for one in run._active):
            raise ValueError("made up")

    monkeypatch.setattr(runner, "PATIENCE_SECONDS", 0.0)
    with monkeypatch.context() as patched:
        before(patched, engine.ErasureRun, "_erase_rows", refuses_bob)
        report = replay(code=3)

    assert list(became_of(report).values()) == ["erased", "left", *["erased"] * 3]
    assert [one["error"] for one in report["requests"]] == ["", "internal_error", "", "", ""]
    assert gone(*numbers) == [True, False, True, True, True]
    assert sorted(sizes, reverse=True) == [5, 2, 2, 1, 1, 1]
    assert Conversation.objects.get(pk=numbers[1]).is_closed


def test_workers_catch_up_after_a_failover_and_leave_a_restored_database_to_its_operator(chatbot, storage, caplog):
    company = Company(chatbot)
    number = company.talk("c-1", "alice")
    with restored():
        company.delete("alice")
        work()
        export = company.export("alice")
        write_journal()
    sweep_and_work()
    assert (gone(number), Service.objects.get().state) == ([False], "restored")
    notice("catching_up")

    worker.drain(seconds=20)

    assert (gone(number), Service.objects.get().state) == ([True], "open")
    # What clients are to be told.
    assert f"replay.not_carried_out request={export} plan=lost_export" in caplog.messages


def test_workers_leave_what_another_life_wrote_to_an_operator(chatbot, storage) -> None:
    """A copy for staging, made before the last replay, writes under our name: its erased chatters are still ours."""
    company, people = Company(chatbot), ("alice", "bob", "carol", "dora")
    numbers = [company.talk(f"c-{who}", who) for who in people]
    backup = Backup()
    ours, copy = Service.objects.get().incarnation, uuid4()
    for who in people:
        Service.objects.update(incarnation=copy if who in ("bob", "dora") else ours)
        company.delete(who)
        work()
    backup.restore(state="catching_up")

    worker.drain(seconds=20)

    assert (gone(*numbers), Service.objects.get().state) == ([False] * 4, "restored")
    assert not ComplianceRequest.objects.exists()
    # An operator may decide that it was not a copy.
    # The first object was loaded before.
    found = replay("--dry-run")["objects"]
    lives = [life["incarnation"] for life in found["lives"]]
    assert (lives, found["lives_mixed"]) == ([str(copy), str(ours), str(copy)], True)
    assert "WARNING: two lives" in told()
    assert gone(*numbers) == [True] * 4
