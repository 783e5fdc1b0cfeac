"""What a request counts, store by store: for the API's request object and for the console."""

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
