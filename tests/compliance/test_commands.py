"""The commands as an operator uses them: output, exit codes, refusals."""

import io
from uuid import uuid4

import pytest
from django.conf import settings
from django.core.management import CommandError
from django.utils import timezone

from chatbots.models import ChangeLogEntry
from common.db import finds_by_index
from compliance import worker
from compliance.models import ComplianceRequest, Heartbeat, RequestNote
from compliance.retention import expiry
from conversations.models import NameWord
from tests import factories
from tests.commands import refused, report, run
from tests.compliance.exporting import committed
from tests.factories import conversation_of, deletion_of
from tests.patches import before

Status = ComplianceRequest.Status


def test_a_deletion_is_filed_and_carried_out_without_a_cluster(chatbot, storage) -> None:
    conversation_of(chatbot, "42")

    filed = report("request_deletion", "acme", "member_id", "42", "--reference", "T-1")
    assert (filed["status"], filed["reference"]) == ("accepted", "T-1")
    assert filed["status_url"] == f"/api/v1/chatbots/acme/requests/{filed['request_id']}"

    assert run("process_requests")[:2] == (0, "All requests, by state: 1 completed.\n")
    request = ComplianceRequest.objects.get()
    assert (request.status, request.messages, request.origin) == (Status.COMPLETED, 2, "command")


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    ("command", "module", "part"),
    [("process_requests", worker, "drain"), ("purge_expired", expiry, "remove_expired")],
)
@pytest.mark.usefixtures("chatbot", "storage")
def test_it_finds_rows_by_index_though_whether_it_may_run_was_looked_up_before(monkeypatch, command, module, part):
    before(monkeypatch, module, part, lambda *_, **__: set_so.append(finds_by_index()))
    set_so: list[bool] = []
    run(command)
    assert set_so == [True]


@pytest.mark.parametrize("command", ["request_deletion", "request_export"])
def test_it_points_out_values_that_look_similar_without_showing_them(chatbot, command) -> None:
    for value in ("Zoe\u0308", "Zoe\u0308", "ZOË", "zoe"):
        conversation_of(chatbot, value)
    ran = run(command, "acme", "member_id", "Zoë")
    similar = [
        line.removeprefix("Another chatter's value looks similar: member_id, ") for line in ran.err.splitlines()
    ]
    assert similar == [
        "1 conversation, differs in upper and lower case.",
        "2 conversations, differs in characters that look the same or are invisible.",
    ]
    assert "zo" not in (ran.err + ran.out).casefold()


def test_it_reads_the_value_from_standard_input(chatbot, monkeypatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("42\n"))
    run("request_export", "acme", "member_id", "-", "--include-shared", "--include-files")
    request = ComplianceRequest.objects.get()
    assert (request.kind, request.uci_value) == ("export", "42")
    assert request.include_shared
    assert request.include_files


@pytest.mark.parametrize(
    ("prepare", "code"), [("completed", 0), ("failed", 3), ("on_hold", 4), ("rejected", 5), ("accepted", 6)]
)
def test_waiting_ends_with_an_exit_code_for_the_result(chatbot, storage, monkeypatch, prepare, code) -> None:
    endings = {
        "completed": {"completed_at": timezone.now(), "result": "done", "uci_value": None},
        "failed": {"failed_at": timezone.now(), "error_code": "storage_locked", "error_detail": "Lift it."},
        "on_hold": {"held_at": timezone.now(), "hold_reason": "export_pending"},
        "rejected": {"rejected_at": timezone.now(), "uci_value": None},
        "accepted": {},
    }
    monkeypatch.setattr("time.sleep", lambda _: ComplianceRequest.objects.update(status=prepare, **endings[prepare]))
    ended, out, _ = run("request_deletion", "acme", "member_id", "42", "--wait", "--timeout", "0.1")
    assert ended == code
    assert prepare in out
    assert "42" not in out.replace(str(ComplianceRequest.objects.get().pk), "")


@pytest.mark.parametrize("works", [False, True])
def test_waiting_says_at_once_when_no_worker_runs(chatbot, monkeypatch, works) -> None:
    if works:
        now = timezone.now()
        Heartbeat.objects.create(
            id=uuid4(), name="one", version="1", workers=2, started_at=now, seen_at=now, worked_at=now
        )
    monkeypatch.setattr("time.sleep", lambda _: None)
    _, _, said = run("request_export", "acme", "member_id", "42", "--wait", "--timeout", "0")
    first, second, *_ = said.splitlines()
    assert ("No worker is running" in first) is ("process_requests" in first) is not works
    assert (first if works else second) == "accepted"


def test_one_conversation_is_counted_as_one(chatbot, storage, monkeypatch) -> None:
    conversation_of(chatbot, "42", messages=1)
    monkeypatch.setattr("time.sleep", lambda _: worker.drain())
    _, out, said = run("request_deletion", "acme", "member_id", "42", "--wait")
    assert said.splitlines()[-1] == "completed: 1 of 1 conversation"
    assert out.splitlines()[-1] == "1 conversation, 1 message, 0 files, 0 earlier exports"


@committed
def test_waiting_for_an_export_prints_its_location(chatbot, storage, monkeypatch) -> None:
    conversation_of(chatbot, "42")
    monkeypatch.setattr("time.sleep", lambda _: worker.drain())

    code, out, _ = run("request_export", "acme", "member_id", "42", "--wait")

    export = ComplianceRequest.objects.get().export
    assert code == 0
    assert f"{export.rows} rows, {export.bytes} bytes in {settings.S3_BUCKET}, key {export.key}" in out


@committed
def test_waiting_for_a_folder_prints_its_list_of_files(chatbot, storage, monkeypatch) -> None:
    conversation_of(chatbot, "42")
    monkeypatch.setattr("time.sleep", lambda _: worker.drain())

    code, out, _ = run("request_export", "acme", "member_id", "42", "--formats", "csv,html", "--wait")

    export = ComplianceRequest.objects.get().export
    assert code == 0
    assert export.key.endswith("/manifest.json")
    assert f"; a folder in {settings.S3_BUCKET}, with the list of its files at key {export.key}\n" in out


def test_refusals_are_explained(chatbot) -> None:
    unknown = refused("request_deletion", "nobody", "member_id", "42")
    assert str(unknown) == "There is no chatbot 'nobody'. Known: acme."
    placeholder = refused("request_deletion", "acme", "member_id", "null")
    assert str(placeholder) == "invalid: This value is a placeholder that identifies no one."
    assert placeholder.returncode == 2
    spaced = refused("request_deletion", "acme", "member_id", "42", "--reference", "with a space")
    assert str(spaced).startswith("invalid: The reference must be 1 to 64 characters: letters A to Z")
    assert not ComplianceRequest.objects.exists()
    assert refused("approve_request", str(uuid4())).returncode == 2
    assert "a request id is a UUID" in str(refused("approve_request", "7"))
    assert str(refused("verify_erasure")) == "Give one request, or --all."
    assert "no completed deletion, retention run or redaction" in str(refused("verify_erasure", str(uuid4())))


def test_held_requests_are_decided(chatbot) -> None:
    held = {"status": Status.ON_HOLD, "hold_reason": "export_pending", "held_at": timezone.now()}
    for command, status, reason in (
        ("approve_request", "accepted", "verified_with_client"),
        ("reject_request", "rejected", "legal_obligation"),
        ("cancel_request", "cancelled", "withdrawn_by_person"),
    ):
        request = deletion_of(chatbot, command, **held)
        for unknown in ("cause_mended", ""):
            assert refused(command, str(request.pk), "--reason", unknown).returncode == 1
        if command == "reject_request":
            assert "--reason" in str(refused(command, str(request.pk)))
        given = ["--reason", reason, "--note", "She rang."]
        assert run(command, str(request.pk), *given)[1] == f"deletion {request.pk}: {status}\n"
        assert ChangeLogEntry.objects.get(request_id=request.pk).data == {"reason": reason}
        assert RequestNote.objects.get(request=request).text == "She rang."


def test_a_failed_request_is_retried_at_the_end_of_the_queue(chatbot) -> None:
    failed = {"status": Status.FAILED, "failed_at": timezone.now(), "error_code": "x", "attempts": 5}
    request, nobodys = deletion_of(chatbot, "42", **failed), deletion_of(chatbot, None, **failed)
    waiting = deletion_of(chatbot, "43")
    assert report("retry_request", str(request.pk))["status"] == "accepted"
    request.refresh_from_db()
    assert (request.attempts, request.error_code, request.seq < waiting.seq) == (0, "", True)
    assert request.queued_at >= waiting.queued_at
    for one in (request, nobodys):
        assert str(refused("retry_request", str(one.pk))).startswith("not_retryable: ")


def test_verification_finds_data_restored_from_a_backup(chatbot, storage) -> None:
    gone = conversation_of(chatbot, "42")
    request = deletion_of(chatbot, "42")
    worker.drain(seconds=60)
    assert run("verify_erasure", "--all")[:2] == (0, "Verified: 1. Left something: 0.\n")

    factories.MessageFactory.create(conversation=gone)
    NameWord.objects.create(chatbot=chatbot, conversation=gone, word="ada")
    conversation_of(chatbot, "42")
    conversation_of(chatbot, "43")

    assert report("verify_erasure", str(request.pk), code=3) == {
        "verified": 1,
        "by_marks_alone": 0,
        "left": {
            str(request.pk): {
                "conversations_conversation": 1,
                "conversations_identity": 1,
                "conversations_message": 3,
                "conversations_nameword": 1,
            }
        },
    }


def test_verification_reports_deletions_too_old_to_be_checked_by_digest(chatbot, storage) -> None:
    conversation_of(chatbot, "42")
    deletion_of(chatbot, "42")
    deletion_of(chatbot, "43")
    worker.drain(seconds=60)
    ComplianceRequest.objects.filter(conversations=1).update(uci_digest=None)

    code, out, _ = run("verify_erasure", "--all")
    assert (code, out.splitlines()[0]) == (0, "Verified: 2. Left something: 0.")
    assert out.splitlines()[1:] == [
        "1 of them is so old that its digests are forgotten: it was checked only by its marks."
    ]
    assert report("verify_erasure", "--all")["by_marks_alone"] == 1


def test_retry_request_retries_all_that_failed_by_a_code(chatbot, neighbour):
    def failed(owner, value, code="storage_access_denied", **fields):
        fields = {"status": "failed", "error_code": code, "failed_at": timezone.now(), "attempts": 3} | fields
        return deletion_of(owner, value, **fields)

    mine = [failed(chatbot, "1"), failed(chatbot, "2")]
    theirs = failed(neighbour, "1")
    others = [failed(chatbot, "3", "storage_locked"), failed(chatbot, None)]
    asked = ("retry_request", "--all-failed", "--code", "storage_access_denied")

    assert report(*asked, "--dry-run") == {"dry_run": True, "retried": 3}
    assert not ComplianceRequest.objects.exclude(status="failed").exists()
    assert run(*asked, "--chatbot", "acme", "--reason", "cause_mended")[:2] == (0, "2 retried.\n")
    waiting = ComplianceRequest.objects.filter(status="accepted", attempts=0)
    assert list(waiting.order_by("queued_at").values_list("pk", flat=True)) == [one.pk for one in mine]
    assert report(*asked) == {"dry_run": False, "retried": 1}
    assert set(ComplianceRequest.objects.filter(status="failed")) == set(others)
    assert theirs in waiting.all()


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("--all-failed",),
        ("--code", "storage_locked"),
        ("--all-failed", "--code", "storage_locked", "0197a2b4-5c1e-7d30-9f10-3a5b7c9d1e2f"),
        ("0197a2b4-5c1e-7d30-9f10-3a5b7c9d1e2f", "--dry-run"),
    ],
)
def test_retry_request_requires_one_request_or_an_error_code(words):
    with pytest.raises(CommandError, match="--all-failed"):
        run("retry_request", *words)
