"""A client's reference is kept as long as the digests, and emptied then, whatever became of the request."""

import itertools
from datetime import timedelta
from typing import Any

import pytest
from django.db import transaction
from django.utils import timezone
from pytest_django import Settings

from chatbots.models import Chatbot
from compliance import worker
from compliance.models import ComplianceRequest
from compliance.requests import decisions
from tests import factories
from tests.factories import conversation_of, deletion_of, export_of, of_conversations, redaction_of
from tests.functional.elsewhere import Elsewhere

Status = ComplianceRequest.Status

REFERENCE = "TICKET-7"
# The database's time is fixed within a test's transaction, which may take long on a busy machine.
SLACK = timedelta(minutes=5)

FINAL: dict[Status, dict[str, Any]] = {
    Status.COMPLETED: {"result": "done"},
    Status.CANCELLED: {},
    Status.REJECTED: {},
}


@pytest.fixture
def long_ago(settings: Settings) -> dict[str, Any]:
    """Times of a request that was filed, and has ended, longer ago than the ledger's days."""
    at = timezone.now() - settings.ERASURE_LEDGER_DAYS - SLACK
    return {"received_at": at, "queued_at": at, "ended_at": at}


@pytest.fixture
def lately(settings: Settings) -> dict[str, Any]:
    """Times of a request that was filed as long ago, but has ended within those days."""
    at = timezone.now() - settings.ERASURE_LEDGER_DAYS
    return {"received_at": at - SLACK, "queued_at": at - SLACK, "ended_at": at + SLACK}


def ended(request: ComplianceRequest, status: Status, times: dict[str, Any], **fields: Any) -> ComplianceRequest:
    """Return the request, ended at that time."""
    times = dict(times)
    fields |= {f"{status}_at": times.pop("ended_at"), "status": status} | FINAL.get(status, {}) | times
    if status in FINAL:
        fields["uci_value"] = None
    ComplianceRequest.objects.filter(pk=request.pk).update(**fields)
    return request


def failed(request: ComplianceRequest, times: dict[str, Any], **fields: Any) -> ComplianceRequest:
    return ended(request, Status.FAILED, times, error_code="storage_unavailable", **fields)


def references(*requests: ComplianceRequest) -> list[str]:
    found = dict(ComplianceRequest.objects.values_list("pk", "reference"))
    return [found[one.pk] for one in requests]


def test_a_final_request_keeps_its_reference_for_the_ledgers_days_and_no_longer(chatbot, neighbour, long_ago, lately):
    def of_each_kind(owner: Chatbot, times: dict[str, Any]) -> list[ComplianceRequest]:
        made = [
            deletion_of(owner, "42", reference=REFERENCE),
            export_of(owner, "42", reference=REFERENCE),
            of_conversations(owner, "c-1", reference=REFERENCE),
            of_conversations(owner, "c-1", kind="export", reference=REFERENCE),
            redaction_of(conversation_of(owner, "3", messages=1), reference=REFERENCE),
        ]
        # It keeps the digest of an export, and no reference.
        factories.ExportFactory.create(
            request=made[1], key=f"{made[1].pk}.csv", hosting="client", bucket="theirs",
            endpoint="http://127.0.0.1:1", rows=1, bytes=1, sha256="0" * 64, finished_at=times["ended_at"],
        )  # fmt: skip
        return [ended(one, status, times) for one, status in zip(made, itertools.cycle(FINAL))]

    old, new, theirs = (
        of_each_kind(chatbot, long_ago),
        of_each_kind(chatbot, lately),
        of_each_kind(neighbour, lately),
    )

    worker.sweep()

    assert references(*old) == [""] * len(old)
    assert references(*new, *theirs) == [REFERENCE] * (len(new) + len(theirs))


def test_a_request_keeps_its_reference_while_it_is_open_or_can_be_retried(chatbot, long_ago) -> None:
    at = long_ago["ended_at"]
    held = {"reference": REFERENCE, "status": "on_hold", "held_at": at}
    requests = [
        deletion_of(chatbot, "1", reference=REFERENCE, not_before=timezone.now() + timedelta(days=1)),
        deletion_of(chatbot, "2", hold_reason="too_many_conversations", **held),
        of_conversations(chatbot, "c-1", hold_reason="awaiting_approval", **held),
        export_of(chatbot, "3", reference=REFERENCE, status="processing", started_at=at),
    ]
    retried = [
        failed(deletion_of(chatbot, "4", reference=REFERENCE), long_ago),
        failed(of_conversations(chatbot, "c-2", reference=REFERENCE), long_ago),
        failed(redaction_of(conversation_of(chatbot, "5", messages=1), reference=REFERENCE), long_ago),
    ]
    ComplianceRequest.objects.update(received_at=at, queued_at=at)

    worker.sweep()
    assert references(*requests, *retried) == [REFERENCE] * 7

    for request in retried:
        decisions.retry(request_id=request.pk, actor="command")
    worker.sweep()
    assert references(*retried) == [REFERENCE] * 3


def test_a_failed_request_loses_its_reference_with_its_digests(chatbot, storage, drain, long_ago, lately) -> None:
    """A later deletion of the same has made them impossible to retry."""
    conversation_of(chatbot, "42", external_id="c-1")
    old, new = (
        [
            failed(export_of(chatbot, "42", reference=REFERENCE), times),
            failed(of_conversations(chatbot, "c-1", kind="export", reference=REFERENCE), times),
        ]
        for times in (long_ago, lately)
    )
    deletion_of(chatbot, "42", approved_holds=["export_pending"])
    drain()
    assert references(*old, *new) == [REFERENCE] * 4

    worker.sweep()

    assert references(*old) == [""] * 2
    assert references(*new) == [REFERENCE] * 2
    assert {*ComplianceRequest.objects.filter(pk__in=[one.pk for one in old]).values_list("status", flat=True)} == {
        "failed"
    }


@pytest.mark.django_db(transaction=True)
def test_the_sweep_passes_over_locked_requests(chatbot: Chatbot, long_ago: dict[str, Any]) -> None:
    locked, other = (
        ended(deletion_of(chatbot, "42", reference=REFERENCE), Status.COMPLETED, long_ago) for _ in range(2)
    )

    with transaction.atomic():
        ComplianceRequest.objects.select_for_update().get(pk=locked.pk)
        Elsewhere(worker.sweep).end()
        assert references(locked, other) == [REFERENCE, ""]
    worker.sweep()
    assert references(locked, other) == ["", ""]
