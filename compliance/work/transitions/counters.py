"""What was done, per store, and what is left to be done: the counters of requests."""

from collections import Counter
from collections.abc import Mapping
from typing import NamedTuple
from uuid import UUID

from django.db.models.functions import Greatest

from common.arrays import array
from common.db import execute
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

# What one request's work added to its counters.
Counts = Counter[str]


# Rows are locked in the order of filing: the sweep adds to requests that another worker's sweep adds to as well.
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

# What another deletion had erased before is no part of what the mark has counted. It is added when it is found, which
# is once: it can only become less. The row says what was added, since a worker can be killed in between.
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
    """How much a deletion still has to see gone.

    `erased_before`: conversations that another one had erased, and of which something is left. `extracts` are days
    that were made again already, `extracts_left` those that still have to be.
    """

    erased_before: int
    extracts: int
    extracts_left: int


def note_left(left: Mapping[UUID, Left]) -> None:
    """Note how much is left of deletions of the claim, in the caller's transaction."""
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
    """Add what came late to completed deletions, in the caller's transaction: they have found something now."""
    add_counts(counts)
    ComplianceRequest.objects.filter(pk__in=counts).update(
        conversations_total=Greatest("conversations_total", "conversations"), result=ComplianceRequest.Result.DONE
    )
