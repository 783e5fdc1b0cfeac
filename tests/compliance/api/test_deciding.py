"""Cancelling requests and deciding on held ones over HTTP: permissions, refusals and races."""

from collections.abc import Callable
from itertools import product
from typing import Any

import pytest
from django.db import transaction
from django.utils import timezone

from chatbots.models import ChangeLogEntry, Chatbot
from compliance.models import ComplianceRequest, RequestNote
from compliance.requests import decisions
from compliance.requests.reasons import RejectReason
from compliance.work import claims
from compliance.work.transitions import requeue
from tests.calls import ALICE, TokenCaller, pointers, problem
from tests.factories import deletion_of, export_of
from tests.functional.elsewhere import Elsewhere, Gate, uncommitted, wait_until_blocked

Status = ComplianceRequest.Status
Kind = ComplianceRequest.Kind
OTHER = {"reason": "other"}


def held(chatbot: Chatbot, **fields: Any) -> ComplianceRequest:
    fields = {"hold_reason": "too_many_conversations", "held_at": timezone.now()} | fields
    return deletion_of(chatbot, "alice-77", status=Status.ON_HOLD, **fields)


def events(request: ComplianceRequest) -> list[str]:
    return list(ChangeLogEntry.objects.filter(request_id=request.pk).values_list("event", flat=True))


@pytest.mark.parametrize(
    ("decision", "status", "event"),
    [
        ("cancel", "cancelled", "request.cancelled"),
        ("approve", "accepted", "request.approved"),
        ("reject", "rejected", "request.rejected"),
    ],
)
def test_a_decision_is_answered_with_the_request_object(caller, chatbot, decision, status, event):
    for body in ({"reason": "other"},) if decision == "reject" else (b"", b"{}", b" { } "):
        request = held(chatbot)
        response = caller.post(f"requests/{request.pk}/{decision}", body)
        assert response.status_code == 200
        assert response.json() == caller.get(f"requests/{request.pk}").json()
        assert (response.json()["request_id"], response.json()["status"]) == (str(request.pk), status)
        request.refresh_from_db()
        assert (request.hold_reason, request.uci_value is None) == (None, decision != "approve")
        assert events(request) == [event]
        assert ChangeLogEntry.objects.get(request_id=request.pk).actor == f"api:{caller.api_key.prefix}"


@pytest.mark.parametrize(
    ("decision", "reason", "of_another"),
    [
        ("cancel", "withdrawn_by_person", "expected_volume"),
        ("approve", "expected_volume", "duplicate"),
        ("reject", "identity_not_confirmed", "withdrawn_by_person"),
    ],
)
def test_a_decision_may_have_a_reason_code(caller, chatbot, decision, reason, of_another):
    request = held(chatbot)
    answer = caller.post(f"requests/{request.pk}/{decision}", {"reason": of_another})
    assert pointers(answer) == {"/reason": "unknown_value"}
    assert caller.post(f"requests/{request.pk}/{decision}", {"reason": reason}).status_code == 200
    assert ChangeLogEntry.objects.get(request_id=request.pk).data == {"reason": reason}


def test_a_rejection_needs_a_reason_and_keeps_a_note_apart_from_the_log(caller, chatbot):
    request = held(chatbot)
    path = f"requests/{request.pk}/reject"
    for body, error in ((b"", "missing"), ({}, "missing"), ({"reason": None}, "unknown_value")):
        answer = problem(caller.post(path, body), 400, "invalid")
        assert [(one["pointer"], one["code"]) for one in answer["errors"]] == [("/reason", error)]
        assert all(code in answer["errors"][0]["detail"] for code in RejectReason.values)
    for note, error in (("x" * 1_001, "too_long"), ("a\0b", "wrong_pattern"), (7, "wrong_type")):
        assert pointers(caller.post(path, OTHER | {"note": note})) == {"/note": error}
    assert events(request) == []

    assert caller.post(path, {"reason": "legal_claims", "note": "She rang."}).json()["status"] == "rejected"
    assert ChangeLogEntry.objects.get(request_id=request.pk).data == {"reason": "legal_claims"}
    assert RequestNote.objects.get(request=request).text == "She rang."


def test_a_waiting_request_of_either_kind_is_cancelled_once_and_forgets_whom_it_named(caller, chatbot):
    for request in (deletion_of(chatbot, "alice-77"), export_of(chatbot, "alice-77")):
        first, again = [caller.post(f"requests/{request.pk}/cancel", {}) for _ in range(2)]
        assert (first.status_code, first.json()["status"], first.json()) == (200, "cancelled", again.json())
        request.refresh_from_db()
        assert request.uci_value is None
        assert events(request) == ["request.cancelled"]


def test_a_failed_export_is_cancelled_and_the_deletion_that_waited_for_it_goes_on(caller, chatbot):
    export = export_of(chatbot, "3", status=Status.FAILED, failed_at=timezone.now(), error_code="x")
    deletion = deletion_of(chatbot, "3", status=Status.ON_HOLD, hold_reason="export_pending", held_at=timezone.now())
    assert caller.post(f"requests/{export.pk}/cancel", {}).json()["status"] == "cancelled"
    export.refresh_from_db()
    assert export.uci_value is None
    requeue.release_export_pending()
    deletion.refresh_from_db()
    assert deletion.status == Status.ACCEPTED


def test_started_or_ended_requests_are_not_cancelled(caller, chatbot):
    now = timezone.now()
    for request in (
        deletion_of(chatbot, "1", status=Status.PROCESSING, started_at=now),
        deletion_of(chatbot, "2", cutoff_at=now),
        deletion_of(chatbot, "3", status=Status.FAILED, failed_at=now, error_code="x"),
        deletion_of(chatbot, None, status=Status.REJECTED, rejected_at=now),
    ):
        problem(caller.post(f"requests/{request.pk}/cancel", {}), 409, "not_cancellable")
        assert events(request) == []
    requeued = export_of(chatbot, "4", cutoff_at=now)
    assert caller.post(f"requests/{requeued.pk}/cancel", {}).json()["status"] == "cancelled"


@pytest.mark.parametrize("decision", ["approve", "reject"])
def test_only_held_requests_are_decided_and_only_once(caller, chatbot, decision):
    request = deletion_of(chatbot, "alice-77")
    problem(caller.post(f"requests/{request.pk}/{decision}", OTHER), 409, "not_held")
    request = held(chatbot)
    assert caller.post(f"requests/{request.pk}/{decision}", OTHER).status_code == 200
    problem(caller.post(f"requests/{request.pk}/{decision}", OTHER), 409, "not_held")
    assert len(events(request)) == 1


def test_a_key_cancels_what_was_filed_again_after_a_restore_and_staff_alone_decide_on_it(caller, chatbot):
    """The key may have filed it itself: the restored database does not know."""
    request = held(chatbot, hold_reason="restored", filed_by="replay")
    for four_eyes, decision in product([True, False], ["approve", "reject"]):
        Chatbot.objects.update(four_eyes=four_eyes)
        answer = problem(caller.post(f"requests/{request.pk}/{decision}", OTHER), 403, "officers_only")
        assert "in the console" in answer["detail"]
    assert events(request) == []
    assert caller.get(f"requests/{request.pk}").json()["status"] == "on_hold"
    assert caller.post(f"requests/{request.pk}/cancel", {}).json()["status"] == "cancelled"

    outcomes = {decisions.approve: Status.ACCEPTED, decisions.reject: Status.REJECTED}
    for (decide, status), actor in product(outcomes.items(), ["user:1", "command"]):
        request = held(chatbot, hold_reason="restored", filed_by="replay")
        assert decide(request_id=request.pk, actor=actor, reason="other").status == status


def test_cancelling_needs_the_write_scope_of_the_kind(chatbot):
    kinds = {"deletions:write": deletion_of(chatbot, "1"), "exports:write": export_of(chatbot, "1")}
    for scope, request in kinds.items():
        [other] = kinds.keys() - {scope}
        answer = problem(
            TokenCaller(chatbot, scopes=[other]).post(f"requests/{request.pk}/cancel", {}), 403, "scope_missing"
        )
        assert scope in answer["detail"]
        assert TokenCaller(chatbot, scopes=[scope]).post(f"requests/{request.pk}/cancel", {}).status_code == 200


def test_a_decision_with_unknown_fields_is_refused(caller, chatbot):
    request = held(chatbot)
    path = f"requests/{request.pk}/approve"
    for body, at_fault in (
        ({"comment": "x"}, {"/comment": "unknown_field"}),
        ({"reason": ""}, {"/reason": "unknown_value"}),
        ({"reason": 7}, {"/reason": "unknown_value"}),
        ({"reason": "try_again"}, {"/reason": "unknown_value"}),
        ([], {"": "wrong_type"}),
        (b"{", {}),
    ):
        assert pointers(caller.post(path, body)) == at_fault
    problem(caller.post(path, ALICE, Content_Type="text/plain"), 415, "unsupported_media_type")
    assert events(request) == []


# --- At once ---------------------------------------------------------------------------------------------


def while_locked(
    request: ComplianceRequest, *calls: Callable[[], Any], meanwhile: Callable[[], Any] | None = None
) -> list[Any]:
    """Start the calls while another transaction has locked the request; run `meanwhile`, then release it."""
    with uncommitted(lambda: ComplianceRequest.objects.select_for_update().get(pk=request.pk)):
        begun = [Elsewhere(call) for call in calls]
        wait_until_blocked(len(calls))
        if meanwhile:
            meanwhile()
    return [one.end() for one in begun]


@pytest.mark.parametrize(
    ("decision", "event", "second"), [("approve", "approved", 409), ("cancel", "cancelled", 200)]
)
def test_of_two_decisions_at_once_only_one_counts(bot, decision, event, second):
    request, caller = held(bot), TokenCaller(bot)
    answers = while_locked(request, *[lambda: caller.post(f"requests/{request.pk}/{decision}", {})] * 2)
    assert sorted(answer.status_code for answer in answers) == [200, second]
    assert events(request) == [f"request.{event}"]


def test_four_eyes_switched_on_before_a_deletion_continues_apply_to_it(bot):
    caller = TokenCaller(bot)
    request = held(bot, filed_by=f"api:{caller.api_key.prefix}")
    [answer] = while_locked(
        request,
        lambda: caller.post(f"requests/{request.pk}/approve", {}),
        meanwhile=lambda: Chatbot.objects.update(four_eyes=True),
    )
    problem(answer, 403, "own_request")
    assert events(request) == []


def test_a_worker_that_takes_the_request_first_keeps_it(bot):
    request, caller, gate = deletion_of(bot, "alice-77"), TokenCaller(bot), Gate()

    def take() -> claims.HeldClaim | None:
        with transaction.atomic():
            held_claim = claims.take(Kind.DELETION)
            gate.passed()
        return held_claim

    taking = Elsewhere(take)
    gate.wait_for_caller()
    cancelling = Elsewhere(lambda: caller.post(f"requests/{request.pk}/cancel", {}))
    assert cancelling.waits
    gate.open()
    assert taking.end().request_ids == (request.pk,)
    problem(cancelling.end(), 409, "not_cancellable")


def test_a_worker_does_not_take_what_is_being_cancelled(bot):
    request, caller, gate = deletion_of(bot, "alice-77"), TokenCaller(bot), Gate()

    def cancel() -> Any:
        with transaction.atomic():
            answer = caller.post(f"requests/{request.pk}/cancel", {})
            gate.passed()
        return answer

    cancelling = Elsewhere(cancel)
    gate.wait_for_caller()
    assert claims.take(Kind.DELETION) is None
    gate.open()
    assert cancelling.end().json()["status"] == "cancelled"
    assert claims.take(Kind.DELETION) is None
