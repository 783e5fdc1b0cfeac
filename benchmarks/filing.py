"""Put requests into the queue as rows, and wait until workers have carried them out."""

import time
from collections.abc import Iterable
from uuid import UUID

from django.db import transaction
from django.db.models.functions import Now
from django.utils import timezone
from uuid_utils.compat import uuid7

from benchmarks.filling import FilledChatbot
from compliance.cluster import notify
from compliance.models import ComplianceRequest

_UNDER_WAY = ("accepted", "processing")
_HOURS = 3600.0


class NotCompleted(Exception):
    """Requests ended otherwise than completed, or not in time."""


def file(filled: FilledChatbot, values: Iterable[str], kind: str = "deletion", *, formats: str = "csv") -> list[UUID]:
    """File one request for each value, in one transaction, notify the workers, and return the requests' ids."""
    requests = [
        ComplianceRequest(
            id=uuid7(),
            chatbot_id=filled.chatbot,
            variable_id=filled.variable,
            kind=kind,
            formats=formats,
            origin=ComplianceRequest.Origin.COMMAND,
            filed_by="command",
            uci_value=value,
            uci_digest=filled.digest_of(value),
            queued_at=Now(),
            due_at=timezone.now(),
        )
        for value in values
    ]
    with transaction.atomic():
        ComplianceRequest.objects.bulk_create(requests, batch_size=5_000)
        notify.after_commit(notify.notify_workers)
    return [request.pk for request in requests]


def wait(filled: FilledChatbot, kind: str = "deletion", *, every: float = 0.01, seconds: float = 2 * _HOURS) -> float:
    """Wait until the chatbot's requests of this kind are completed; return the seconds. Raises NotCompleted.

    Polls only the last one in the queue, by its key, until it is done, and only then all: a query for all takes
    longer the more there are, and would take the workers' time.
    """
    began = time.perf_counter()
    while rest := _uncompleted(filled, kind):
        while ComplianceRequest.objects.filter(pk=rest[0], status__in=_UNDER_WAY).exists():
            if time.perf_counter() - began > seconds:
                raise NotCompleted(f"Requests of {filled.slug} are not completed after {seconds:.0f} s.")
            time.sleep(every)
    return time.perf_counter() - began


def are_completed(filled: FilledChatbot, kind: str = "deletion") -> bool:
    """Return whether the chatbot's requests of this kind are completed, all of them. Raises NotCompleted."""
    return not _uncompleted(filled, kind)


def filter_completed(ids: Iterable[UUID]) -> set[UUID]:
    """Return the completed ones of these requests."""
    return set(ComplianceRequest.objects.filter(pk__in=ids, status="completed").values_list("pk", flat=True))


def _uncompleted(filled: FilledChatbot, kind: str) -> list[UUID]:
    """Return the last requests that are not completed, the last one first. Raises NotCompleted."""
    rest = ComplianceRequest.objects.filter(chatbot=filled.chatbot, kind=kind).exclude(status="completed")
    found = list(rest.order_by("-seq")[:100])
    if stuck := {(one.status, one.hold_reason, one.error_code) for one in found if one.status not in _UNDER_WAY}:
        raise NotCompleted(f"Requests of {filled.slug} ended as {sorted(map(str, stuck))}.")
    return [one.pk for one in found]
