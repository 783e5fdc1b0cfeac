"""Under four eyes, a second person approves a deletion or a redaction while it waits for its time."""

from collections.abc import Callable
from datetime import timedelta
from uuid import UUID

import pytest
from django.utils import timezone

from chatbots.models import ApiKey, ChangeLogEntry, Chatbot
from compliance.errors import Refused
from compliance.models import ComplianceRequest
from compliance.requests import decisions
from compliance.retention import policy
from tests.calls import TokenCaller, problem
from tests.factories import ClaimFactory, conversation_of, deletion_of, export_of, redaction_of

Status = ComplianceRequest.Status
FILER, SECOND, THIRD = "user:1", "user:2", "user:3"

approve = decisions.approve


@pytest.fixture
def four_eyes(chatbot: Chatbot) -> Chatbot:
    Chatbot.objects.update(four_eyes=True)
    conversation_of(chatbot, "42")
    return chatbot


def waiting(chatbot: Chatbot, filed_by: str = FILER) -> ComplianceRequest:
    """A deletion as it is filed in the console."""
    return deletion_of(chatbot, "42", filed_by=filed_by, not_before=timezone.now() + timedelta(minutes=15))


def start(drain: Callable[[], None], request_id: UUID) -> tuple[str, str | None]:
    """Let its waiting time pass; return its state and what holds it."""
    ComplianceRequest.objects.update(not_before=None)
    drain()
    request = ComplianceRequest.objects.get(pk=request_id)
    return request.status, request.hold_reason


def test_it_keeps_its_time_and_is_not_held_then(four_eyes: Chatbot, drain) -> None:
    request = waiting(four_eyes)
    approved = approve(request_id=request.pk, actor=SECOND, reason="identity_confirmed", note="Asked them.")
    assert (approved.status, approved.not_before) == (Status.ACCEPTED, request.not_before)
    assert (approved.approved_by, approved.approved_at is None) == (SECOND, False)
    entry = ChangeLogEntry.objects.get(request_id=request.pk)
    assert (entry.event, entry.actor, entry.data) == ("request.approved", SECOND, {"reason": "identity_confirmed"})
    assert approved.notes.get().text == "Asked them."
    drain()
    assert ComplianceRequest.objects.get().status == Status.ACCEPTED

    assert start(drain, request.pk) == (Status.COMPLETED, None)


def test_a_redaction_is_approved_early_too(four_eyes: Chatbot, drain) -> None:
    request = redaction_of(conversation_of(four_eyes, "43"))
    approve(request_id=request.pk, actor=SECOND)
    assert start(drain, request.pk) == (Status.COMPLETED, None)


def test_the_guard_and_an_export_hold_it_all_the_same(four_eyes: Chatbot, drain) -> None:
    """Neither is known before it starts. Each needs its own approval, and the early one lasts."""
    Chatbot.objects.update(max_conversations_per_deletion=0)
    export = export_of(four_eyes, "42", status=Status.FAILED, failed_at=timezone.now(), error_code="storage_locked")
    request = waiting(four_eyes)
    approve(request_id=request.pk, actor=SECOND)
    assert start(drain, request.pk) == (Status.ON_HOLD, "export_pending")
    decisions.cancel(request_id=export.pk, actor=THIRD)
    assert start(drain, request.pk) == (Status.ON_HOLD, "too_many_conversations")
    with pytest.raises(Refused, match="four eyes"):
        approve(request_id=request.pk, actor=FILER)
    approve(request_id=request.pk, actor=THIRD)
    assert start(drain, request.pk) == (Status.COMPLETED, None)


def test_nothing_is_approved_early_that_four_eyes_do_not_hold(chatbot: Chatbot) -> None:
    """An approval without them, by the filer themself, would count once they are switched on."""
    policy.change_period(chatbot=chatbot, days=90, actor=FILER, confirmed=0)
    run = ComplianceRequest.objects.get()
    conversation_of(chatbot, "42")
    without = waiting(chatbot)
    claimed, export = deletion_of(chatbot, "42", claim=ClaimFactory.create()), export_of(chatbot, "42")
    begun = deletion_of(chatbot, "begun", started_at=timezone.now(), cutoff_at=timezone.now(), cutoff_number=0)
    with pytest.raises(Refused) as refused:
        approve(request_id=without.pk, actor=FILER)
    assert refused.value.code == "not_held"
    Chatbot.objects.update(four_eyes=True)
    for request in (claimed, export, begun, run):
        with pytest.raises(Refused) as refused:
            approve(request_id=request.pk, actor=SECOND)
        assert refused.value.code == "not_held"


def test_keys_are_one_person_and_approve_what_staff_have_filed(four_eyes: Chatbot) -> None:
    filer, other = TokenCaller(four_eyes), TokenCaller(four_eyes, scopes=["requests:approve"])
    of_key = waiting(four_eyes, f"api:{filer.api_key.prefix}")
    for caller in (filer, other):
        answer = problem(caller.post(f"requests/{of_key.pk}/approve", {}), 403, "own_request")
        assert "in the console" in answer["detail"]
    approve(request_id=of_key.pk, actor=SECOND)

    of_staff = waiting(four_eyes)
    answer = other.post(f"requests/{of_staff.pk}/approve", {})
    assert (answer.status_code, answer.json()["status"], answer.json()["hold_reason"]) == (200, "accepted", None)
    problem(other.post(f"requests/{of_staff.pk}/approve", {}), 409, "not_held")


def test_no_key_approves_what_a_restored_database_does_not_know_the_filer_of(four_eyes: Chatbot) -> None:
    """It can have been a key. Where four eyes were switched on since, it is not held as `restored`."""
    caller = TokenCaller(four_eyes, scopes=["requests:approve"])
    held = {"status": Status.ON_HOLD, "hold_reason": "awaiting_approval", "held_at": timezone.now()}
    for request in (waiting(four_eyes, "replay"), deletion_of(four_eyes, "43", filed_by="replay", **held)):
        problem(caller.post(f"requests/{request.pk}/approve", {}), 403, "own_request")
        assert approve(request_id=request.pk, actor=SECOND).status == Status.ACCEPTED
    assert ApiKey.objects.count() == 1


@pytest.mark.parametrize("off", [True, False])
def test_it_lasts_when_four_eyes_are_switched_off_and_on(four_eyes: Chatbot, drain, off: bool) -> None:
    request = waiting(four_eyes)
    approve(request_id=request.pk, actor=SECOND)
    Chatbot.objects.update(four_eyes=False)
    if not off:
        Chatbot.objects.update(four_eyes=True)
    assert start(drain, request.pk) == (Status.COMPLETED, None)


def test_it_can_still_be_cancelled_and_forgets_whom_it_named(four_eyes: Chatbot, drain) -> None:
    request = waiting(four_eyes)
    approve(request_id=request.pk, actor=SECOND)
    assert decisions.cancel(request_id=request.pk, actor=FILER).uci_value is None
    assert start(drain, request.pk) == (Status.CANCELLED, None)


def test_it_lasts_through_a_failure_and_a_retry(four_eyes: Chatbot, drain) -> None:
    request = waiting(four_eyes)
    approve(request_id=request.pk, actor=SECOND)
    failed = {
        "status": Status.FAILED,
        "failed_at": timezone.now(),
        "error_code": "storage_locked",
        "not_before": None,
    }
    ComplianceRequest.objects.update(**failed)
    decisions.retry(request_id=request.pk, actor=FILER)
    assert start(drain, request.pk) == (Status.COMPLETED, None)
