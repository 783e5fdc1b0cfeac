"""What was done, per store: the counters of requests."""

from collections import Counter
from collections.abc import Mapping
from uuid import UUID

from django.db import connection

from config.arrays import array

COUNTERS = (
    "conversations",
    "shared_conversations",
    "messages",
    "identities",
    "variable_values",
    "files",
    "exports",
    "extracts",
)

# What one request's work added to its counters.
Counts = Counter[str]


def add_counts(counts: Mapping[UUID, Counts]) -> None:
    """Add to the counters of many requests in one statement, in the caller's bite."""
    changed = {request_id: count for request_id, count in counts.items() if count}
    if not changed:
        return
    columns = ", ".join(f"{name} = r.{name} + added.{name}" for name in COUNTERS)
    arrays = ", ".join(["%s::uuid[]", *["%s::bigint[]"] * len(COUNTERS)])
    with connection.cursor() as cursor:
        cursor.execute(
            f"UPDATE compliance_compliancerequest r SET {columns}"  # noqa: S608  (names of ours)
            f" FROM unnest({arrays}) AS added(id, {', '.join(COUNTERS)}) WHERE r.id = added.id",
            [array(changed), *(array(count[name] for count in changed.values()) for name in COUNTERS)],
        )
