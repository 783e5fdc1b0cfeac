"""The counters of requests: what was erased or exported per store, and what is left."""

from collections import Counter
from collections.abc import Mapping
from typing import NamedTuple
from uuid import UUID

from django.db.models.functions import Greatest

from common.db import array, execute
from compliance.models import ComplianceRequest

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

Counts = Counter[str]


# Lock in order of filing: the sweeps of two workers may add to the same requests.
_ADD = f"""
WITH added AS (
    SELECT * FROM unnest({", ".join(["%s::uuid[]", *["%s::bigint[]"] * len(COUNTERS)])})
               AS added(id, {", ".join(COUNTERS)})
), locked AS (
    SELECT id FROM compliance_compliancerequest WHERE id IN (SELECT id FROM added) ORDER BY seq FOR NO KEY UPDATE
)
UPDATE compliance_compliancerequest r SET {", ".join(f"{name} = r.{name} + added.{name}" for name in COUNTERS)}
  FROM locked JOIN added ON added.id = locked.id WHERE r.id = locked.id
"""

# Marking does not count conversations that another deletion had erased before. They are added when found; the row
# records what was added, since a worker can be killed in between.
_NOTE = """
UPDATE compliance_compliancerequest r
   SET conversations_total = counted.total, erased_before = counted.before, extracts_left = noted.days,
       extracts = CASE WHEN counted.total > 0 THEN noted.clean ELSE 0 END
  FROM unnest(%s::uuid[], %s::bigint[], %s::bigint[], %s::bigint[]) AS noted(id, before, clean, days)
 CROSS JOIN LATERAL (
       SELECT greatest(was.erased_before, noted.before) AS before,
              greatest(was.conversations_total + greatest(noted.before - was.erased_before, 0), was.conversations)
                  AS total
         FROM compliance_compliancerequest AS was WHERE was.id = noted.id) AS counted
 WHERE r.id = noted.id
"""


class Left(NamedTuple):
    """What is left for a deletion to remove.

    `erased_before` counts conversations that another deletion erased but that left something. `extracts` are days
    already rebuilt, `extracts_left` days still to rebuild.
    """

    erased_before: int
    extracts: int
    extracts_left: int


def note_left(left: Mapping[UUID, Left]) -> None:
    """Store how much is left of the claim's deletions, in the caller's transaction."""
    if left:
        columns = (array(count) for count in zip(*left.values(), strict=True))
        execute(_NOTE, [array(left), *columns])


def add_counts(counts: Mapping[UUID, Counts]) -> None:
    """Add to the counters of many requests in one statement, in the caller's transaction."""
    changed = {request_id: count for request_id, count in counts.items() if count}
    if not changed:
        return
    execute(_ADD, [array(changed), *(array(count[name] for count in changed.values()) for name in COUNTERS)])


def add_late_counts(counts: Mapping[UUID, Counts]) -> None:
    """Add late data to completed deletions, in the caller's transaction: their result is now `done`."""
    add_counts(counts)
    ComplianceRequest.objects.filter(pk__in=counts).update(
        conversations_total=Greatest("conversations_total", "conversations"), result=ComplianceRequest.Result.DONE
    )
