"""Requests by the platform's conversation ids, instead of a chatter."""

import csv
import hashlib
import io
from datetime import timedelta
from typing import Any

import pytest
from django.core.management import CommandError
from django.db import IntegrityError, transaction
from django.utils import timezone

from chatbots.models import Chatbot
from common.storage import ObjectStorage
from compliance import worker
from compliance.erasure import marking, objects, rows, verify
from compliance.ledger import journal
from compliance.models import Claim, ComplianceRequest, Export
from compliance.requests import decisions
from conversations.models import Conversation, Identity, Message
from tests import factories
from tests.calls import TokenCaller
from tests.commands import report, run
from tests.compliance.conftest import Drain
from tests.factories import NOON, conversation_of, export_of, of_conversations
from tests.functional.support import dump, everything_in
from tests.patches import after, failing

Status = ComplianceRequest.Status

COMMITS = pytest.mark.django_db(transaction=True)  # an export is read on its own connection


def file(chatbot: Chatbot, path: str, *ids: str, **fields: object) -> ComplianceRequest:
    answer = TokenCaller(chatbot).post(path, {"conversation_ids": ids, **fields})
    assert answer.status_code == 200, answer.json()
    return ComplianceRequest.objects.get(pk=answer.json()["request_id"])


def status(request: ComplianceRequest) -> dict[str, Any]:
    answer: dict[str, Any] = TokenCaller(request.chatbot).get(f"requests/{request.pk}").json()
    return answer


def ids_in(storage: ObjectStorage, request: ComplianceRequest) -> set[str]:
    export = ComplianceRequest.objects.get(pk=request.pk).export
    return {row["conversation_id"] for row in csv.DictReader(io.StringIO(storage.read(str(export.key)).decode()))}


def test_a_deletion_erases_the_named_conversations_and_no_other(chatbot, neighbour, drain) -> None:
    for one in (chatbot, neighbour):
        conversation_of(one, external_id="c-1")
        conversation_of(one, "42", "43", external_id="c-2")
        conversation_of(one, "42", external_id="c-3")

    request = file(chatbot, "data-deletion", "c-1", "c-2", "c-unknown")
    drain()

    found = status(request)
    assert (found["status"], found["result"]) == ("completed", "done")
    assert found["counts"]["conversations"] == 2
    live = Conversation.objects.filter(deleted_at=None).values_list("chatbot__slug", "external_id")
    assert set(live) == {(chatbot.slug, "c-3"), *((neighbour.slug, f"c-{n}") for n in (1, 2, 3))}
    assert Message.objects.count() == 8
    assert Identity.objects.filter(chatbot=chatbot).count() == 1


@COMMITS
def test_an_export_holds_the_named_conversations_and_no_other(chatbot, neighbour, drain, storage) -> None:
    conversation_of(neighbour, "42", external_id="c-1")
    for name, values in {"c-1": (), "c-2": ("42", "43"), "c-3": ("42",)}.items():
        conversation_of(chatbot, *values, external_id=name)
    request = file(chatbot, "data-export", "c-1", "c-2", "c-unknown")
    none = file(chatbot, "data-export", "c-unknown")
    drain()

    found = status(request)
    assert (found["status"], found["counts"]["conversations"], found["counts"]["messages"]) == ("completed", 2, 4)
    assert ids_in(storage, request) == {"c-1", "c-2"}
    assert found["export"]["key"].startswith(f"{chatbot.slug}/chatter_data_exports/!conversations/")
    assert status(none)["result"] == "nothing_found"
    assert status(none)["export"]["key"] != found["export"]["key"]


@COMMITS
def test_nothing_is_left_of_the_named_ids(chatbot, neighbour, drain, storage) -> None:
    planted = ["their-words", "their-value", "their-id-77", "theirname", "their-photo.jpg", "their-picture"]
    for one, words in ((chatbot, "their"), (neighbour, "other")):
        conversation = conversation_of(
            one,
            f"{words}-value",
            text=f"{words}-words",
            external_id=f"{words}-id-77",
            user_name=f"The {words}name",
            has_file_upload=True,
        )
        key = f"uploads/{one.pk}/1"
        name, sha256 = f"{words}-photo.jpg", hashlib.sha256(f"{words}-picture".encode()).hexdigest()
        factories.UploadedFileFactory.create(
            conversation=conversation, object_key=key, name=name, size=13, sha256=sha256, state="stored"
        )
        storage.put(key, f"{words}-picture".encode(), "image/jpeg")
        export_of(one, f"{words}-value", include_files=True)
        of_conversations(one, f"{words}-id-77", kind="export", include_files=True)
    # The request itself contains no id, not even while it waits.
    drain()
    before = dump() + everything_in(storage)
    assert [text for text in planted if text not in before] == []
    file(chatbot, "data-deletion", "their-id-77", erase_exports=True)
    assert dump().count("their-id-77") == before.count("their-id-77") - everything_in(storage).count("their-id-77")

    drain()

    after = dump() + everything_in(storage)
    assert [text for text in planted if text in after] == []
    others = [text.replace("their", "other") for text in planted]
    assert [text for text in others if text not in after] == []


def test_a_worker_that_is_killed_after_each_step_leaves_it_to_the_next(chatbot, storage, monkeypatch) -> None:
    monkeypatch.setattr(rows, "CHUNK_CONVERSATIONS", 2)
    for number in range(6):
        one = conversation_of(chatbot, f"u-{number}", external_id=f"c-{number}", has_file_upload=number == 0)
        if number == 0:
            factories.UploadedFileFactory.create(conversation=one, object_key="uploads/1/a", stored=True)
            storage.put("uploads/1/a", b"photo", "image/jpeg")
    kept = conversation_of(chatbot, "u-0", external_id="c-kept")
    request = of_conversations(chatbot, *(f"c-{number}" for number in range(6)))

    steps = [(marking, "mark"), (rows, "erase_chunk"), (objects, "erase_files"), (journal, "conclude")]
    for module, step in steps:
        with monkeypatch.context() as patch:
            after(patch, module, step, failing(KeyboardInterrupt))
            with pytest.raises(KeyboardInterrupt):
                worker.drain()
        Claim.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
    assert not worker.drain()

    request.refresh_from_db()
    assert (request.status, request.attempts, request.result) == (Status.COMPLETED, 4, "done")
    assert (request.conversations, request.messages, request.identities, request.files) == (6, 12, 6, 1)
    assert list(Conversation.objects.filter(deleted_at=None)) == [kept]
    assert verify.audit([request.pk]).left == {}


def test_a_conversation_restored_from_a_backup_is_found_by_its_id(chatbot: Chatbot, drain: Drain) -> None:
    conversation_of(chatbot, external_id="c-1")
    as_it_was = conversation_of(chatbot, external_id="c-2", messages=0, started_at=NOON.replace(year=2020))
    request = of_conversations(chatbot, "c-1", "c-2")
    drain()
    assert report("verify_erasure", "--all") == {"verified": 1, "by_marks_alone": 0, "left": {}}

    fields = {field.name for field in Conversation._meta.local_concrete_fields}
    as_it_was.save(update_fields=fields - {"id", "chatbot"})
    left = {"conversations_conversation": 1}
    assert report("verify_erasure", "--all", code=3)["left"] == {str(request.pk): left}


@COMMITS
def test_digests_are_forgotten_after_the_ledgers_days(chatbot, drain, settings, storage) -> None:
    conversation_of(chatbot, external_id="c-1")
    conversation_of(chatbot, external_id="c-live")
    erased, nothing = of_conversations(chatbot, "c-1"), of_conversations(chatbot, "c-2")
    lies, gone = (of_conversations(chatbot, name, kind="export") for name in ("c-live", "c-2"))
    drain()
    late = timezone.now() - settings.ERASURE_LEDGER_DAYS - timedelta(seconds=1)
    ComplianceRequest.objects.update(completed_at=late)
    failed = {"status": Status.FAILED, "error_code": "x", "failed_at": late}
    owes = of_conversations(chatbot, "c-live", kind="export", **failed)
    owes_nothing = of_conversations(chatbot, "c-3", kind="export", **failed)
    tries = of_conversations(chatbot, "c-3", **failed)
    fresh = of_conversations(chatbot, "c-9", status=Status.REJECTED, rejected_at=timezone.now())
    Export.objects.filter(request=gone).update(key=None)

    worker.sweep()

    requests = [erased, nothing, gone, owes_nothing, lies, owes, tries, fresh]
    for request in requests:
        request.refresh_from_db()
    assert [request.conversation_digests is None for request in requests] == [True] * 4 + [False] * 4
    assert [decisions.is_retryable(request) for request in (owes, tries, owes_nothing)] == [True, True, False]
    assert status(erased)["selector"] == "conversations"


@COMMITS
def test_commands_name_conversations_too(chatbot, storage, monkeypatch) -> None:
    conversation_of(chatbot, external_id="c-1")
    conversation_of(chatbot, external_id=" c 2")
    monkeypatch.setattr("sys.stdin", io.StringIO("c-1\n c 2\n"))
    run("request_export", "acme", "--conversation", "-", "--reference", "T-1")
    run("request_deletion", "acme", "--conversation", "c-1", "--conversation", "c-none", "--json")
    assert run("process_requests")[:2] == (0, "All requests, by state: 2 completed.\n")
    assert list(ComplianceRequest.objects.order_by("seq").values_list("conversations", flat=True)) == [2, 1]
    assert run("reconcile_storage").code == 0

    for words in (["member_id", "42", "--conversation", "c-1"], [], ["member_id"]):
        with pytest.raises(CommandError, match="Give one chatter"):
            run("request_deletion", "acme", *words)
    with pytest.raises(CommandError, match=r"^invalid: ") as refused:
        run("request_deletion", "acme", "--conversation", "c-1", "--conversation", "c-1")
    assert refused.value.returncode == 2


def test_the_database_takes_no_open_request_without_exactly_one_selector(chatbot):
    request = factories.RequestFactory.create(chatbot=chatbot)
    no_subject = {"variable": None, "uci_value": None, "uci_digest": None}
    for columns in (
        *({"named_conversations": 1}, {"variable": None}, {"uci_value": None, "uci_digest": None}),
        *(no_subject, no_subject | {"named_conversations": 0}, no_subject | {"named_conversations": 101}),
    ):
        with pytest.raises(IntegrityError, match="request_"), transaction.atomic():
            ComplianceRequest.objects.filter(pk=request.pk).update(**columns)
