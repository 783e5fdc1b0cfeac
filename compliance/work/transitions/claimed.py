"""What all reports have in common: the requests that are still in the claim, and their change-log entries."""

from collections.abc import Callable, Iterable
from uuid import UUID

from chatbots import changelog
from compliance.models import ComplianceRequest
from compliance.work.claims import HeldClaim

ACTOR = "worker"


def claimed(held: HeldClaim, request_ids: Iterable[UUID]) -> list[ComplianceRequest]:
    """Lock the requests, in one order for all workers. What has left the claim is left out."""
    return list(
        ComplianceRequest.objects.select_for_update(of=("self",))
        .filter(pk__in=list(request_ids), claim=held.id)
        .order_by("seq")
    )


def log(
    event: str,
    requests: Iterable[ComplianceRequest],
    data: Callable[[ComplianceRequest], changelog.Data] = lambda _request: {},
) -> None:
    changelog.record_all(
        [
            changelog.entry(
                event, chatbot_id=request.chatbot_id, request_id=request.pk, actor=ACTOR, data=data(request)
            )
            for request in requests
        ]
    )
