"""What staff and clients may and may not do to a request."""

from uuid import uuid4

import pytest
from django.utils import timezone

from chatbots.models import Bucket, ChangeLogEntry, Chatbot, Variable
from compliance.errors import Refused
from compliance.models import ComplianceRequest
from compliance.requests import decisions
from compliance.requests.selectors import ByUci
from compliance.requests.submit import submit as submit_request
from compliance.work import claims
from tests import factories
from tests.factories import deletion_of, export_of

Status = ComplianceRequest.Status
Kind = ComplianceRequest.Kind
Origin = ComplianceRequest.Origin

pytestmark = pytest.mark.django_db


def submit(chatbot: Chatbot, uci_key="member_id", uci_value="42", **changes) -> ComplianceRequest:
    call = {
        "chatbot": chatbot,
        "kind": Kind.DELETION,
        "about": ByUci(uci_key, uci_value),
        "origin": Origin.COMMAND,
        "actor": "command",
    }
    return submit_request(**call | changes)


def refused(operation, **call) -> str:
    with pytest.raises(Refused) as caught:
        operation(**call)
    return caught.value.code


def test_a_filed_request_is_accepted_and_on_record(chatbot) -> None:
    request = submit(chatbot, reference="TICKET-7")

    assert (request.status, request.filed_by, request.reference) == (Status.ACCEPTED, "command", "TICKET-7")
    assert (request.due_at - request.received_at).days == 30
    entry = ChangeLogEntry.objects.get()
    assert (entry.event, entry.request_id, entry.actor) == ("request.accepted", request.pk, "command")


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"uci_key": "plan"}, "unknown_uci_key"),
        ({"uci_key": "nobody"}, "unknown_uci_key"),
        ({"uci_value": ""}, "invalid"),
        ({"uci_value": "null"}, "invalid"),
        ({"uci_value": "x" * 513}, "invalid"),
        ({"uci_value": "a\0b"}, "invalid"),
        ({"uci_value": "\ud800"}, "invalid"),
        ({"reference": "ticket-of-42"}, "invalid"),
        ({"reference": "with a space"}, "invalid"),
    ],
)
def test_it_refuses_and_stores_nothing(chatbot, changes, code) -> None:
    assert refused(submit, chatbot=chatbot, **changes) == code
    assert not ComplianceRequest.objects.exists()
    assert not ChangeLogEntry.objects.exists()


def test_it_wants_the_feature_a_uci_and_a_bucket(chatbot) -> None:
    Bucket.objects.all().delete()
    assert refused(submit, chatbot=chatbot, kind=Kind.EXPORT) == "export_destination_missing"
    Variable.objects.update(is_uci=False)
    assert refused(submit, chatbot=chatbot) == "uci_not_designated"
    chatbot.compliance_enabled = False
    assert refused(submit, chatbot=chatbot) == "compliance_disabled"


def test_a_former_uci_can_still_be_named(chatbot) -> None:
    Variable.objects.filter(name="member_id").update(is_uci=False, was_uci=True)
    factories.VariableFactory.create(chatbot=chatbot, name="account")

    assert submit(chatbot).variable.name == "member_id"


def test_grace_puts_a_request_off_and_the_console_always_gives_some(chatbot) -> None:
    chatbot.grace_minutes = 5
    by_command, by_person = submit(chatbot), submit(chatbot, origin=Origin.CONSOLE, actor="user:1")

    assert (by_command.not_before - by_command.received_at).seconds == 5 * 60
    assert (by_person.not_before - by_person.received_at).seconds == 15 * 60
    assert claims.take(Kind.DELETION) is None


@pytest.mark.parametrize(
    ("operation", "status", "event"),
    [
        (decisions.approve, Status.ACCEPTED, "request.approved"),
        (decisions.reject, Status.REJECTED, "request.rejected"),
        (decisions.cancel, Status.CANCELLED, "request.cancelled"),
    ],
)
def test_a_held_request_can_be_decided(chatbot, operation, status, event) -> None:
    held = deletion_of(chatbot, "42", status=Status.ON_HOLD, hold_reason="export_pending", held_at=timezone.now())

    decided = operation(request_id=held.pk, actor="user:7")

    assert (decided.status, decided.hold_reason) == (status, None)
    assert decided.uci_value == ("42" if status == Status.ACCEPTED else None)
    assert ChangeLogEntry.objects.get().event == event


@pytest.mark.parametrize("operation", [decisions.approve, decisions.reject])
def test_only_held_requests_are_decided(chatbot, operation) -> None:
    request = deletion_of(chatbot, "42")

    assert refused(operation, request_id=request.pk, actor="user:7") == "not_held"
    assert refused(operation, request_id=uuid4(), actor="user:7") == "not_found"


def test_a_request_can_be_cancelled_until_it_is_taken(chatbot) -> None:
    first, second = deletion_of(chatbot, "42"), deletion_of(chatbot, "43")
    decisions.cancel(request_id=first.pk, actor="command")

    claims.take(Kind.DELETION)

    assert refused(decisions.cancel, request_id=second.pk, actor="command") == "not_cancellable"
    assert decisions.cancel(request_id=first.pk, actor="command").status == Status.CANCELLED
    assert ChangeLogEntry.objects.filter(event="request.cancelled").count() == 1


def test_a_marking_deletion_cannot_be_cancelled_but_a_requeued_export_can(chatbot) -> None:
    deletion = deletion_of(chatbot, "42", cutoff_at=timezone.now())
    export = export_of(chatbot, "43", cutoff_at=timezone.now())

    assert refused(decisions.cancel, request_id=deletion.pk, actor="command") == "not_cancellable"
    assert decisions.cancel(request_id=export.pk, actor="command").status == Status.CANCELLED


def test_a_retried_request_goes_to_the_end_of_the_queue(chatbot) -> None:
    failed = deletion_of(
        chatbot, "42", status=Status.FAILED, failed_at=timezone.now(), error_code="storage_locked", attempts=5
    )
    waiting = deletion_of(chatbot, "43")

    retried = decisions.retry(request_id=failed.pk, actor="command")

    assert (retried.status, retried.attempts, retried.error_code) == (Status.ACCEPTED, 0, "")
    assert retried.seq == failed.seq < waiting.seq
    assert retried.queued_at >= waiting.queued_at
    assert refused(decisions.retry, request_id=failed.pk, actor="command") == "not_retryable"


def test_a_failed_request_without_its_selector_is_not_retried(chatbot) -> None:
    failed = deletion_of(chatbot, "42", status=Status.FAILED, failed_at=timezone.now(), error_code="x")
    ComplianceRequest.objects.update(uci_value=None)

    assert refused(decisions.retry, request_id=failed.pk, actor="command") == "not_retryable"
