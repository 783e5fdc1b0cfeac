"""A preview over HTTP shows exactly what a deletion and an export then do, and writes nothing."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.db import InternalError, connection, transaction
from django.utils import timezone

from chatbots.models import Bucket, ChangeLogEntry, Chatbot, Variable
from compliance.api.schemas import Counts
from compliance.erasure import objects
from compliance.errors import StepFailed
from compliance.models import ComplianceRequest, Export
from compliance.requests import finds
from compliance.requests import preview as previews
from compliance.requests import similar as similar_values
from conversations import uploads
from conversations.models import Conversation, DailyExtract, Identity, Message
from tests.calls import TokenCaller, pointers, problem
from tests.compliance.conftest import Drain
from tests.compliance.exporting import committed
from tests.extracting import FIRST, conversation_on, day_after, make_all, noon, planned
from tests.factories import IdentityFactory, VariableValueFactory, conversation_of, deletion_of, export_of, uci_of
from tests.functional.elsewhere import Elsewhere
from tests.functional.support import dump

KEY, VALUE = "unique_chatter_identifier_key", "unique_chatter_identifier_value"
NOBODY = {"user_channel": 0, "platform": 0, "verified": 0}
NOTHING = {
    "deletion": {
        "erased": dict.fromkeys(
            ["conversations", "messages", "identities", "variable_values", "files", "exports", "extracts"], 0
        ),
        "shared_conversations": 0,
        "assurance": NOBODY,
        "exports_that_go": [],
        "kept": dict.fromkeys(["conversations", "exports", "delivered_exports", "delivered_extracts"], 0),
        "held_by": [],
        "under_legal_hold": 0,
    },
    "export": {"assurance": NOBODY, "refused": None}
    | dict.fromkeys(["conversations", "messages", "files", "shared_left_out", "unverified_left_out"], 0),
    "at_least": False,
    "open_requests": [],
    "similar": [],
}

Preview = Callable[..., dict[str, Any]]


@pytest.fixture
def preview(caller: TokenCaller) -> Preview:
    """Preview requests about a chatter, and check that nothing was written."""

    def ask(value: str = "alice", **fields: Any) -> dict[str, Any]:
        before = dump()
        response = caller.post("preview", body(value, **fields))
        assert response.status_code == 200, response.content
        assert dump() == before
        answer: dict[str, Any] = response.json()
        return answer

    caller.get("requests")  # records the use of the key
    return ask


def body(value: str = "alice", **fields: Any) -> dict[str, Any]:
    return {KEY: "member_id", VALUE: value, **fields}


def carried_out(caller: TokenCaller, path: str, drain: Drain, value: str = "alice", **fields: Any) -> dict[str, Any]:
    """File a request, carry it out, and return the request object."""
    filed = caller.post(path, body(value, **fields))
    drain()
    answer: dict[str, Any] = caller.get(f"requests/{filed.json()['request_id']}").json()
    assert answer["status"] == "completed"
    return answer


def expected_preview(deletion: dict[str, Any]) -> dict[str, Any]:
    """Return the preview that a completed deletion should have had."""
    kept = deletion["kept_exports"]
    return {
        "erased": {name: deletion["counts"][name] for name in Counts.model_fields},
        "assurance": deletion["assurance"],
        "kept": {
            "conversations": Conversation.objects.filter(deletion_request_id=deletion["request_id"]).count(),
            "exports": sum(one["hosting"] == "hosted" for one in kept),
            "delivered_exports": sum(one["hosting"] == "client" for one in kept),
            "delivered_extracts": len(deletion["delivered_extracts"]),
        },
    }


def assert_as_previewed(deletion: dict[str, Any], found: dict[str, Any]) -> None:
    expected = expected_preview(deletion)
    assert expected == {name: found["deletion"][name] for name in expected}


def exported(chatbot: Chatbot, value: str, drain: Drain, *, days_ago: int, include_shared: bool = False) -> Export:
    """An export of a chatter that was finished some days ago."""
    request = export_of(chatbot, value, include_shared=include_shared)
    drain()
    Export.objects.filter(request=request).update(finished_at=timezone.now() - timedelta(days=days_ago))
    return Export.objects.get(request=request)


def filled(chatbot: Chatbot) -> None:
    """Alice has two own conversations on two days, one of them signed, with all related rows, and one shared with
    bob."""
    own = conversation_on(chatbot, "alice", noon(), noon(day_after(FIRST)))
    VariableValueFactory.create(conversation=own)
    for name in ("one.jpg", "two.jpg"):
        uploads.receive(conversation=own, name=name, content_type="image/jpeg", chunks=[b"content"])
    signed = conversation_on(chatbot, "alice", noon(day_after(FIRST, 3)))
    Identity.objects.filter(conversation=signed).update(established_by=Identity.EstablishedBy.SIGNED)
    IdentityFactory.create(
        conversation=conversation_on(chatbot, "alice", noon()), variable=uci_of(chatbot), value="bob"
    )
    conversation_on(chatbot, "bob", noon(day_after(FIRST, 2)))


def a_clients_file(export: Export) -> None:
    Export.objects.filter(pk=export.pk).update(hosting="client", bucket="clients", expires_at=None)


def deliver(extract: DailyExtract) -> None:
    DailyExtract.objects.filter(pk=extract.pk).update(hosting="client", bucket="clients", expires_at=None)


@committed
@pytest.mark.long(reason="the same with the other option", beyond=1)
@pytest.mark.parametrize("erase_exports", [False, True])
def test_a_deletion_does_what_its_preview_showed(caller, chatbot, preview, drain, erase_exports):
    filled(chatbot)
    planned(chatbot, FIRST, day_after(FIRST, 3))
    make_all()
    deliver(DailyExtract.objects.get(day=day_after(FIRST, 3)))
    old, fresh = exported(chatbot, "alice", drain, days_ago=8), exported(chatbot, "alice", drain, days_ago=1)
    of_bob = exported(chatbot, "bob", drain, days_ago=9, include_shared=True)
    exported(chatbot, "bob", drain, days_ago=10)
    theirs = exported(chatbot, "alice", drain, days_ago=30)
    a_clients_file(theirs)
    exported(chatbot, "carol", drain, days_ago=30)
    gone = [str(export.request_id) for export in (fresh, old, of_bob) if erase_exports or export is not fresh]

    found = preview(action="delete", erase_exports=erase_exports)

    assert found["export"] is None
    assert found["deletion"]["erased"] == {
        "conversations": 3,
        "messages": 4,
        "identities": 4,
        "variable_values": 1,
        "files": 2,
        "exports": len(gone),
        "extracts": 2,
    }
    assert found["deletion"]["shared_conversations"] == 1
    assert found["deletion"]["exports_that_go"] == gone
    assert found["deletion"]["kept"]["delivered_exports"] == found["deletion"]["kept"]["delivered_extracts"] == 1
    done = carried_out(caller, "data-deletion", drain, erase_exports=erase_exports)
    assert_as_previewed(done, found)
    assert done["assurance"] == {"user_channel": 0, "platform": 2, "verified": 1}
    assert ComplianceRequest.objects.get(pk=done["request_id"]).shared_conversations == 1
    removed = Export.objects.filter(removed_at__isnull=False).values_list("request_id", flat=True)
    assert {str(request_id) for request_id in removed} == set(gone)


@committed
@pytest.mark.parametrize(("include_shared", "include_files"), [(False, True), (True, False)])
def test_an_export_does_what_its_preview_showed(chatbot, preview, drain, include_shared, include_files):
    filled(chatbot)
    caller, options = TokenCaller(chatbot), {"include_shared": include_shared, "include_files": include_files}

    found = preview(action="export", **options)

    assert found["deletion"] is None
    assert found["export"] == {
        "conversations": 2 + include_shared,
        "messages": 3 + include_shared,
        "files": 2 * include_files,
        "shared_left_out": 1 - include_shared,
        "assurance": {"user_channel": 0, "platform": 2, "verified": 1},
        "unverified_left_out": 0,
        "refused": None,
    }
    done = carried_out(caller, "data-export", drain, **options)
    counts = {name: done["counts"][name] for name in ("conversations", "messages", "files")}
    counts |= {name: done[name] for name in ("assurance", "unverified_left_out")}
    assert counts == {name: found["export"][name] for name in counts}
    request = ComplianceRequest.objects.get(pk=done["request_id"])
    assert request.shared_conversations == found["export"]["shared_left_out"]


@committed
def test_conversations_are_previewed_by_their_ids_too(caller, chatbot, drain):
    named = [
        conversation_of(chatbot, *people, external_id=f"c-{number}")
        for number, people in enumerate([(), ("alice",), ("alice", "bob"), ("carol",)])
    ]
    uploads.receive(conversation=named[1], name="a.jpg", content_type="image/jpeg", chunks=[b"content"])
    exported(chatbot, "bob", drain, days_ago=8), exported(chatbot, "carol", drain, days_ago=8)
    ids = {"conversation_ids": ["c-0", "c-1", "c-2", "unknown"]}

    def previewed_and_carried_out(path: str, **fields: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        found = caller.post("preview", ids | fields).json()
        assert found["similar"] == found["open_requests"] == []
        filed = caller.post(path, ids | fields).json()
        drain()
        done = caller.get(f"requests/{filed['request_id']}").json()
        assert done["counts"]["conversations"] == 3
        return found, done

    found, export = previewed_and_carried_out("data-export", include_files=True)
    assert found["export"].items() >= {"files": 1, "shared_left_out": 0, "unverified_left_out": 0}.items()
    assert found["export"]["assurance"] is export["assurance"] is None
    assert export["counts"].items() >= {name: found["export"][name] for name in ("messages", "files")}.items()
    found, deletion = previewed_and_carried_out("data-deletion")
    assert_as_previewed(deletion, found)
    assert deletion["assurance"] is None
    assert (found["deletion"]["shared_conversations"], found["deletion"]["kept"]["exports"]) == (1, 1)
    assert [one["request_id"] for one in deletion["kept_exports"]] == [export["request_id"]]


def test_a_preview_shows_that_nothing_was_found_and_that_an_export_would_need_a_bucket(preview, neighbour):
    conversation_of(neighbour, "alice")
    assert preview() == NOTHING
    Bucket.objects.all().delete()
    found = preview()
    assert found["export"]["refused"] == "export_destination_missing"
    assert found["deletion"] == NOTHING["deletion"]


def test_a_preview_shows_conversations_marked_by_another_deletion(caller, chatbot, preview, drain):
    shared, own = conversation_of(chatbot, "alice", "bob", messages=3), conversation_of(chatbot, "alice")
    others = deletion_of(chatbot, "bob", status="processing", started_at=timezone.now(), cutoff_at=timezone.now())
    Conversation.objects.filter(pk=shared.pk).update(deletion_request_id=others.pk)
    found = preview()
    assert (found["export"]["conversations"], found["export"]["messages"]) == (1, own.message_count)
    assert (found["deletion"]["erased"]["conversations"], found["deletion"]["kept"]["conversations"]) == (2, 2)
    # Whether or not the other ends, both erase the same rows.
    ComplianceRequest.objects.update(status="failed", failed_at=timezone.now(), error_code="x")
    assert preview() | {"open_requests": []} == found | {"open_requests": []}
    done = carried_out(caller, "data-deletion", drain)
    assert done["counts"] == found["deletion"]["erased"] | {"csat_comments": 0}


def test_a_preview_shows_the_rest_of_a_failed_deletion(caller, chatbot, preview, drain, monkeypatch):
    conversation = conversation_of(chatbot, "alice", messages=4)
    uploads.receive(conversation=conversation, name="a.jpg", content_type="image/jpeg", chunks=[b"content"])
    deletion_of(chatbot, "alice")
    refused = StepFailed("storage_locked", "Grant it.", retryable=False)
    monkeypatch.setattr(objects, "erase_files", lambda _begin, ids, **_options: dict.fromkeys(ids, refused))
    drain()
    monkeypatch.undo()
    # The rows are erased, the file is not.
    found = preview()
    assert {store: count for store, count in found["deletion"]["erased"].items() if count} == {"files": 1}
    assert found["export"]["conversations"] == 0
    done = carried_out(caller, "data-deletion", drain)
    assert done["counts"] == found["deletion"]["erased"] | {"csat_comments": 0}


@committed
def test_a_preview_reads_one_snapshot_and_cannot_write(chatbot, caller, monkeypatch):
    conversation_of(chatbot, "alice")
    find = similar_values.find

    def late(**asked: Any) -> Any:
        find(**asked)  # what is read first of one of Citus' machines decides which instant is read there
        Elsewhere(lambda: conversation_of(chatbot, "ALICE")).end()
        with connection.cursor() as cursor, pytest.raises(InternalError), transaction.atomic():
            cursor.execute("DELETE FROM conversations_message")
        return find(**asked)

    monkeypatch.setattr(similar_values, "find", late)
    assert caller.post("preview", body()).json()["similar"] == []
    monkeypatch.undo()
    assert len(caller.post("preview", body()).json()["similar"]) == 1


def test_a_preview_shows_why_a_deletion_would_be_held(chatbot, preview):
    for _ in range(3):
        conversation_of(chatbot, "alice", messages=0)
    assert preview()["deletion"]["held_by"] == []
    Chatbot.objects.update(max_conversations_per_deletion=2, four_eyes=True)
    failed = export_of(chatbot, "alice", status="failed", failed_at=timezone.now(), error_code="x")
    waiting = deletion_of(chatbot, "alice")
    found = preview()
    assert found["deletion"]["held_by"] == ["export_pending", "too_many_conversations", "awaiting_approval"]
    assert found["open_requests"] == [str(waiting.pk)]
    ComplianceRequest.objects.filter(pk=failed.pk).update(uci_value=None)
    Chatbot.objects.update(max_conversations_per_deletion=3, four_eyes=False)
    assert preview()["deletion"]["held_by"] == []


def test_a_preview_counts_conversations_up_to_a_limit(chatbot, preview, monkeypatch):
    Chatbot.objects.update(max_conversations_per_deletion=2)
    for _ in range(5):
        conversation_of(chatbot, "alice", messages=1)
    monkeypatch.setattr(finds, "MOST_FOUND", 3)
    found = preview()
    assert found["at_least"] is True
    assert found["deletion"]["erased"]["conversations"] == found["export"]["conversations"] == 4
    assert found["deletion"]["held_by"] == ["too_many_conversations"]


@committed
def test_the_days_of_very_many_messages_are_those_of_their_conversations(chatbot, preview, monkeypatch, storage):
    conversation_on(chatbot, "alice", noon(), noon(day_after(FIRST, 2)))
    Conversation.objects.update(last_message_at=noon(day_after(FIRST, 2)))
    conversation_on(chatbot, "alice", noon(day_after(FIRST)))
    planned(chatbot, FIRST, day_after(FIRST, 3))
    make_all()
    Message.objects.filter(sent_at=noon(day_after(FIRST))).delete()
    assert preview()["deletion"]["erased"]["extracts"] == 2
    monkeypatch.setattr(previews, "EXACT_MESSAGES", 1)
    assert preview()["deletion"]["erased"]["extracts"] == 3


# --- Refusals --------------------------------------------------------------------------------------------


def test_a_preview_shows_what_the_key_may_file(chatbot):
    for scope, shown, hidden in (("deletions:write", "deletion", "export"), ("exports:write", "export", "deletion")):
        weak = TokenCaller(chatbot, scopes=[scope])
        answer = weak.post("preview", body()).json()
        assert (answer[shown] is None, answer[hidden] is None) == (False, True)
        action = "export" if shown == "deletion" else "delete"
        problem(weak.post("preview", body(action=action)), 403, "scope_missing")
    problem(TokenCaller(chatbot, scopes=["requests:read"]).post("preview", body()), 403, "scope_missing")


def test_a_preview_is_refused_as_a_filing_is(caller):
    assert pointers(caller.post("preview", body("null"))) == {f"/{VALUE}": "invalid"}
    assert pointers(caller.post("preview", body(reference="T-alice"))) == {"/reference": "invalid"}
    assert pointers(caller.post("preview", body(action="erase"))) == {"/action": "unknown_value"}
    assert pointers(caller.post("preview", body(action=["delete"]))) == {"/action": "unknown_value"}
    assert pointers(caller.post("preview", body(action="delete", include_files=True))) == {
        "/include_files": "unknown_field"
    }
    assert pointers(caller.post("preview", body(action="export", erase_exports=True))) == {
        "/erase_exports": "unknown_field"
    }
    problem(caller.post("preview", body() | {KEY: "plan"}), 400, "unknown_uci_key")
    Variable.objects.update(is_uci=False)
    problem(caller.post("preview", body()), 409, "uci_not_designated")
    Chatbot.objects.update(compliance_enabled=False)
    problem(caller.post("preview", body()), 409, "compliance_disabled")
    assert not ComplianceRequest.objects.exists()
    assert not ChangeLogEntry.objects.filter(event__startswith="request.").exists()


def test_nothing_of_the_chatter_is_logged(caller, chatbot, caplog):
    caplog.set_level("DEBUG")
    conversation_of(chatbot, "ALICE-77")
    assert caller.post("preview", body("alice-77")).json()["similar"]
    assert "alice-77" not in caplog.text.lower()


@committed
def test_a_preview_counts_client_copies_whose_key_an_earlier_deletion_cleared(chatbot, caller, preview, drain):
    conversation_of(chatbot, "alice", "bob")
    export = exported(chatbot, "alice", drain, days_ago=1, include_shared=True)
    a_clients_file(export)
    carried_out(caller, "data-deletion", drain)
    export.refresh_from_db()
    assert export.key is None

    kept = preview("bob")["deletion"]["kept"]
    assert kept["delivered_exports"] == 1
    assert kept == expected_preview(carried_out(caller, "data-deletion", drain, "bob"))["kept"]


@committed
def test_a_day_that_was_delivered_without_what_is_erased_is_not_counted(chatbot, caller, drain):
    ids = {"conversation_ids": [conversation_on(chatbot, "alice", noon()).external_id]}
    planned(chatbot, FIRST)
    make_all()
    carried_out(caller, "data-deletion", drain)
    assert make_all() == 0, "The deletion had it made again."
    deliver(DailyExtract.objects.get())  # as when the chatbot's files go to a client's bucket since

    kept = caller.post("preview", ids | {"action": "delete"}).json()["deletion"]["kept"]
    filed = caller.post("data-deletion", ids).json()["request_id"]
    drain()
    assert kept == expected_preview(caller.get(f"requests/{filed}").json())["kept"]
