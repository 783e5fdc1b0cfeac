"""What a request counts, store by store, and what it waits for: for the API's request object and for the console."""

from collections.abc import Mapping

from compliance.models import ComplianceRequest

# The request's counter, and what it counts.
COUNTED: Mapping[str, str] = {
    "conversations": "Conversations",
    "messages": "Messages",
    "identities": "Identities",
    "variable_values": "Values of other variables",
    "files": "Uploaded files",
    "exports": "Earlier exports",
    "extracts": "Daily extracts made again",
}

# What an export's file can hold.
EXPORTED = ("conversations", "messages", "files")


def counts_of(request: ComplianceRequest) -> dict[str, int]:
    """Return by store what a deletion has erased so far, or what an export holds."""
    return {name: getattr(request, name) for name in COUNTED}


def conversations_done(request: ComplianceRequest) -> int:
    """Return how many of the conversations in a deletion's scope are erased, or how many an export holds.

    While it is under way, those that it has erased itself: what another deletion erases counts there.
    """
    if request.kind == ComplianceRequest.Kind.DELETION and request.status == ComplianceRequest.Status.COMPLETED:
        return request.conversations_total
    return request.conversations


def waits_for(request: ComplianceRequest) -> str | None:
    """Return what a request that was begun waits for, one of `ComplianceRequest.WaitingFor`, while it waits."""
    waits = request.status == ComplianceRequest.Status.ACCEPTED and request.claim_id is None
    return request.waiting_for if waits else None
