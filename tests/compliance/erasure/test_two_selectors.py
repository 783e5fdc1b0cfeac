"""Requests about a common conversation: by the platform's ids, by chatters, and by one of each.

With real commits: an export reads its snapshot on a connection of its own.
"""

from datetime import timedelta
from functools import partial
from typing import Any
from uuid import uuid4

import pytest
from django.utils import timezone

from chatbots.models import Chatbot
from compliance import worker
from compliance.erasure import rows
from compliance.models import ComplianceRequest, Export
from compliance.requests import decisions
from compliance.work import claims, scheduling
from conversations.models import Conversation, Message
from tests.compliance.conftest import Drain
from tests.factories import conversation_of, deletion_of, export_of, of_conversations
from tests.functional.elsewhere import Elsewhere

Status = ComplianceRequest.Status
Kind = ComplianceRequest.Kind

pytestmark = pytest.mark.django_db(transaction=True)

SELECTORS = ["uci", "ids"]
PAIRS = [(first, second) for first in SELECTORS for second in SELECTORS]
FAILED = {"status": Status.FAILED, "error_code": "storage_locked"}
HELD = ("on_hold", "export_pending")


def about(chatbot: Chatbot, who: str, selector: str, kind: str, **fields: Any) -> ComplianceRequest:
    """A request about a chatter, or about the conversation of that chatter."""
    if selector == "ids":
        return of_conversations(chatbot, f"c-{who}", kind=kind, **fields)
    return (deletion_of if kind == "deletion" else export_of)(chatbot, who, **fields)


def paired(chatbot: Chatbot, **of_export: Any) -> dict[str, tuple[ComplianceRequest, ComplianceRequest]]:
    """For each pair of selectors: a chatter with a conversation, an export, and a later deletion."""
    pairs = {}
    for first, second in PAIRS:
        who = f"{first}-{second}"
        conversation_of(chatbot, who, external_id=f"c-{who}")
        export = about(chatbot, who, first, "export", **of_export)
        pairs[who] = export, about(chatbot, who, second, "deletion")
    return pairs


def state(request: ComplianceRequest) -> tuple[str, str | None]:
    request.refresh_from_db()
    return request.status, request.hold_reason


def test_an_export_that_still_waits_is_delivered_before_a_later_deletion(chatbot: Chatbot, drain: Drain) -> None:
    pairs = paired(chatbot, not_before=timezone.now() + timedelta(hours=1))
    drain()
    in_line = ("accepted", None)
    assert {who: state(deletion) for who, (_, deletion) in pairs.items()} == {
        "uci-uci": in_line,
        "uci-ids": HELD,
        "ids-uci": HELD,
        "ids-ids": in_line,
    }

    ComplianceRequest.objects.update(not_before=None)
    drain()
    assert {state(request)[0] for pair in pairs.values() for request in pair} == {"completed"}
    assert {request.messages for pair in pairs.values() for request in pair} == {2}


def test_a_deletion_continues_when_it_is_approved_or_the_export_given_up(chatbot, neighbour, drain) -> None:
    of_export = {"status": Status.ON_HOLD, "hold_reason": "awaiting_approval", "held_at": timezone.now()}
    approved, given_up = paired(chatbot, **of_export).values(), paired(neighbour, **of_export).values()
    drain()
    deletions = [deletion for _, deletion in (*approved, *given_up)]
    assert {state(deletion) for deletion in deletions} == {HELD}

    for _, deletion in approved:
        decisions.approve(request_id=deletion.pk, actor="command")
    for export, _ in given_up:
        decisions.cancel(request_id=export.pk, actor="command")
    drain()
    assert {state(deletion)[0] for deletion in deletions} == {"completed"}
    assert {deletion.messages for deletion in deletions} == {2}


def test_requests_with_a_common_conversation_run_one_after_the_other(chatbot: Chatbot, drain: Drain) -> None:
    conversation_of(chatbot, "42", external_id="c-2")
    first = of_conversations(chatbot, "c-1", "c-2")
    second = of_conversations(chatbot, "c-2", "c-3")
    third = of_conversations(chatbot, "c-3")
    apart = of_conversations(chatbot, "c-4")
    behind = of_conversations(chatbot, "c-4", kind="export")

    held = claims.take(Kind.DELETION)
    assert held
    assert set(held.request_ids) == {first.pk, apart.pk}
    assert claims.take(Kind.DELETION) is None
    assert claims.take(Kind.EXPORT) is None
    held.release()
    drain()

    requests = [first, second, third, apart, behind]
    assert {state(request)[0] for request in requests} == {"completed"}
    assert [request.result for request in requests] == ["done", *["nothing_found"] * 4]
    assert first.completed_at <= second.cutoff_at <= second.completed_at <= third.cutoff_at


def test_a_failed_export_is_given_up_when_none_of_its_conversations_is_left(chatbot: Chatbot, drain: Drain) -> None:
    for number in (1, 2):
        conversation_of(chatbot, "42", external_id=f"c-{number}")
    export = of_conversations(chatbot, "c-1", "c-2", kind="export", failed_at=timezone.now(), **FAILED)
    deletions = [of_conversations(chatbot, f"c-{number}") for number in (1, 2)]
    drain()
    assert [state(deletion) for deletion in deletions] == [HELD, HELD]

    decisions.approve(request_id=deletions[0].pk, actor="command")
    drain()
    export.refresh_from_db()
    assert decisions.is_retryable(export)
    assert state(deletions[1]) == HELD

    decisions.approve(request_id=deletions[1].pk, actor="command")
    drain()
    export.refresh_from_db()
    assert (state(deletions[1])[0], export.conversation_digests) == ("completed", None)
    assert not export.subjects.exists()
    assert not decisions.is_retryable(export)


def test_another_deletion_by_the_same_ids_finds_the_export_that_the_first_kept(chatbot, drain, storage) -> None:
    conversation_of(chatbot, "42", external_id="c-42")
    requests = [of_conversations(chatbot, each, kind="export") for each in ("c-42", "c-none")]
    drain()
    export, unknown = (Export.objects.get(request=request) for request in requests)
    of_conversations(chatbot, "c-42")
    drain()
    assert storage.exists(str(export.key))

    of_conversations(chatbot, "c-42", "c-none", erase_exports=True)
    drain()
    assert not storage.exists(str(export.key))
    assert storage.exists(str(unknown.key)), "it holds nothing of what was erased"


def test_exports_of_a_conversations_participants_are_removed_with_it(chatbot, drain, storage) -> None:
    conversation_of(chatbot, "42", external_id="c-42")
    conversation_of(chatbot, "43", "44", external_id="c-43")
    exports = [export_of(chatbot, value, include_shared=True) for value in ("42", "43", "44", "45")]
    drain()
    of_conversations(chatbot, "c-42", "c-43", erase_exports=True)
    drain()
    keys = Export.objects.order_by("request__seq").values_list("key", flat=True)
    assert [key is not None for key in keys] == [False, False, False, True]
    assert Export.objects.filter(request=exports[3]).exists()


def drain_all() -> None:
    """Let time pass, so that waiting requests are tried again."""
    for _ in range(3):
        worker.drain(seconds=30)
        ComplianceRequest.objects.filter(status=Status.ACCEPTED).update(not_before=None)


def test_deletions_by_ids_and_by_chatters_that_race_erase_each_conversation_once(chatbot, monkeypatch, storage):
    monkeypatch.setattr(rows, "CHUNK_CONVERSATIONS", 3)
    monkeypatch.setitem(scheduling.CLAIM_SIZE, Kind.DELETION, 4)
    for number in range(24):
        conversation_of(chatbot, f"u-{number % 6}", external_id=f"c-{number}", messages=1)
    requests = [deletion_of(chatbot, f"u-{number}") for number in range(6)]
    requests += [of_conversations(chatbot, *(f"c-{n}" for n in range(first, 24, 8))) for first in range(8)]

    for working in [Elsewhere(partial(worker.drain, seconds=30)) for _ in range(2)]:
        working.end()
    drain_all()

    assert {state(request)[0] for request in requests} == {"completed"}
    assert sum(request.conversations for request in requests) == 24
    assert sum(request.messages for request in requests) == 24
    assert not Conversation.objects.filter(deleted_at=None).exists()


def test_an_export_without_its_conversations_does_not_hold_a_deletion(chatbot, neighbour, drain) -> None:
    for one in (chatbot, neighbour):
        conversation_of(one, "42", "43", external_id="c-42")
    for owner, who, selector in (
        (neighbour, "42", "ids"),
        (neighbour, "42", "uci"),
        (chatbot, "44", "ids"),
        (chatbot, "44", "uci"),
        # It would leave the shared conversation out.
        (chatbot, "42", "uci"),
    ):
        about(owner, who, selector, "export", failed_at=timezone.now(), **FAILED)
    deletion = of_conversations(chatbot, "c-42")

    drain()
    assert state(deletion)[0] == "completed"
    assert Message.objects.filter(chatbot=neighbour).count() == 2


def test_what_has_nothing_to_deliver_of_a_deletion_does_not_hold_it(chatbot: Chatbot, drain: Drain) -> None:
    failed = FAILED | {"failed_at": timezone.now()}
    deletions = {}
    for first, second in PAIRS:
        who = f"later-{first}-{second}"
        conversation_of(chatbot, who, external_id=f"c-{who}")
        deletions[who] = about(chatbot, who, first, "deletion")
        about(chatbot, who, second, "export", **failed)
    for first, second in (SELECTORS, reversed(SELECTORS)):
        who = f"marked-{first}"
        conversation_of(chatbot, who, external_id=f"c-{who}", deletion_request_id=uuid4())
        about(chatbot, who, first, "export", **failed)
        deletions[who] = about(chatbot, who, second, "deletion")
    for second in SELECTORS:
        who = f"given-up-{second}"
        conversation_of(chatbot, who, external_id=f"c-{who}")
        export = export_of(chatbot, who, **failed)
        ComplianceRequest.objects.filter(pk=export.pk).update(uci_value=None)
        deletions[who] = about(chatbot, who, second, "deletion")
    for who, conversation in (("of-a-co-participant", "c-1"), ("with-what-is-shared", "c-2")):
        conversation_of(chatbot, who, f"{who}-2", external_id=conversation)
    export_of(chatbot, "of-a-co-participant-2", include_shared=True, **failed)
    deletions["of-a-co-participant"] = deletion_of(chatbot, "of-a-co-participant")
    export_of(chatbot, "with-what-is-shared", include_shared=True, **failed)
    holds = of_conversations(chatbot, "c-2")

    drain()

    assert {who: state(one)[0] for who, one in deletions.items()} == dict.fromkeys(deletions, "completed")
    assert state(holds) == HELD
