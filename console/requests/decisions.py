"""What a person may decide of a request now, and deciding it: each decision is one call into operations."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from uuid import UUID

from django.http import HttpRequest

from compliance.errors import Refused
from compliance.models import ComplianceRequest
from compliance.requests import operations
from compliance.requests.reasons import Decision
from console.common.scope import DECIDE, MANAGE_REQUESTS, Role, actor_of, chatbots_with_role, is_superuser, may

Status = ComplianceRequest.Status


@dataclass(frozen=True)
class Way:
    """How a decision is made and shown."""

    operation: Callable[..., ComplianceRequest]
    roles: tuple[Role, ...]
    label: str
    icon: str
    look: str  # of its button
    says: str  # what happens then
    done: str


WAYS: Mapping[Decision, Way] = {
    Decision.APPROVE: Way(
        operations.approve,
        DECIDE,
        "Approve",
        "check",
        "primary",
        "The request goes on, past what it is held for. Another reason to hold it is asked about anew.",
        "approved",
    ),
    Decision.REJECT: Way(
        operations.reject,
        DECIDE,
        "Reject",
        "cross",
        "danger",
        "The request ends without being carried out, and forgets whom it named. That cannot be undone.",
        "rejected",
    ),
    Decision.RETRY: Way(
        operations.retry,
        MANAGE_REQUESTS,
        "Retry",
        "retry",
        "primary",
        "The request goes to the end of the line, with fresh attempts.",
        "put at the end of the line",
    ),
    Decision.CANCEL: Way(
        operations.cancel,
        MANAGE_REQUESTS,
        "Cancel the request",
        "leave",
        "",
        "The request is withdrawn, and forgets whom it named. That cannot be undone.",
        "cancelled",
    ),
}


def fits(decision: Decision, request: ComplianceRequest, *, names_somebody: bool) -> bool:
    """Say whether the request is in a state for the decision. The operation asks again, and has the last word."""
    if decision in {Decision.APPROVE, Decision.REJECT}:
        return request.status == Status.ON_HOLD
    if decision is Decision.RETRY:
        return request.status == Status.FAILED and names_somebody
    return operations.is_cancellable(request)


def offered(call: HttpRequest, request: ComplianceRequest, *, names_somebody: bool) -> list[Decision]:
    """Return what the user may decide of the request now."""
    fitting = [one for one in WAYS if fits(one, request, names_somebody=names_somebody)]
    allowed = [one for one in fitting if may(call, request.chatbot, WAYS[one].roles)]
    if Decision.APPROVE in allowed and operations.needs_another(request, actor_of(call)):
        allowed.remove(Decision.APPROVE)
    return allowed


def offered_in_bulk(call: HttpRequest) -> list[Decision]:
    """Return what the user may decide in some chatbot."""
    return [one for one, way in WAYS.items() if is_superuser(call) or chatbots_with_role(call, way.roles)]


def decide(
    call: HttpRequest,
    decision: Decision,
    request_id: UUID,
    *,
    reason: str,
    note: str = "",
    held_for: str | None = None,
) -> ComplianceRequest:
    """Carry a decision out in the user's name. `held_for`: the hold that they were shown. Raises Refused."""
    seen = {"held_for": held_for} if decision is Decision.APPROVE else {}
    return WAYS[decision].operation(request_id=request_id, actor=actor_of(call), reason=reason, note=note, **seen)


def decide_all(
    call: HttpRequest,
    decision: Decision,
    requests: Iterable[ComplianceRequest],
    *,
    reason: str,
    held_for: Mapping[str, str],
) -> tuple[int, Counter[str]]:
    """Decide on each, in the order of filing; return how many went well, and why others were refused.

    A request of a chatbot in which the user lacks the role is refused, too. `held_for`: a request's id -> the hold
    that the user was shown, empty for none.
    """
    went, refused = 0, Counter[str]()
    for request in sorted(requests, key=lambda one: one.seq):
        if not may(call, request.chatbot, WAYS[decision].roles):
            refused["Your role in this chatbot does not allow it."] += 1
            continue
        try:
            decide(call, decision, request.pk, reason=reason, held_for=held_for.get(str(request.pk)))
        except Refused as refusal:
            refused[refusal.detail] += 1
        else:
            went += 1
    return went, refused
