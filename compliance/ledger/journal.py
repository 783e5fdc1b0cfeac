"""Write what was promised before anything is done for it: requests accepted and withdrawn, keys revoked.

Triggers insert an entry for each, in the transaction that accepts, withdraws or revokes, so no way of doing so can
forget it. A worker writes the entries to the ledger every few seconds, never the call that files: filing waits for no
storage. What was accepted since is lost with the database.

A request that is carried out before its turn in the journal is written by the worker that is about to
(`write_accepted`). Before files and exports are removed for one, which no restore brings back, the ledger says that
it has begun (`intend`).
"""

import logging
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from uuid import UUID

from django.db import transaction

from common.db import array, execute, fetch
from compliance.errors import StepFailed
from compliance.ledger import lines, objects
from compliance.ledger.content import Line
from compliance.ledger.objects import Written
from compliance.models import JournalEntry
from compliance.work import health, occurrences

logger = logging.getLogger(__name__)

_AT_ONCE = 5_000

_NEXT = "SELECT id, kind, request_id, key_prefix FROM compliance_journalentry ORDER BY id LIMIT %s"
_UNWRITTEN = "SELECT request_id FROM compliance_journalentry WHERE request_id = ANY(%s) AND kind = 'accepted'"
# Those that have removed something are in the ledger as begun, and retention runs with what they erase.
_NOT_INTENDED = """
SELECT id FROM compliance_compliancerequest
 WHERE id = ANY(%s) AND kind <> 'retention' AND files = 0 AND exports = 0
"""
# Two workers may drop the same entries: neither waits for the other.
_DROP = """
DELETE FROM compliance_journalentry
 WHERE id = ANY(ARRAY(SELECT id FROM compliance_journalentry WHERE {which} ORDER BY id FOR UPDATE SKIP LOCKED))
"""
_DROP_ENTRIES = _DROP.format(which="id = ANY(%s)")
_DROP_ACCEPTED = _DROP.format(which="request_id = ANY(%s) AND kind = 'accepted'")


def write_due() -> None:
    """Write what waits, unless another worker has begun to in the last seconds.

    Where the storage refuses, the entries wait.
    """
    if health.is_journal_due() and occurrences.ask(occurrences.Name.JOURNAL, every=health.JOURNAL_AGE_SECONDS):
        try:
            while _write_some() == _AT_ONCE:
                pass
        except StepFailed as failure:
            logger.warning("journal.not_written code=%s", failure.code)


def write_accepted(request_ids: Collection[UUID]) -> None:
    """Write those of these requests that the ledger does not have yet. Raises StepFailed.

    Until it returns, nothing may be destroyed for them.
    """
    _write(request_id for (request_id,) in fetch(_UNWRITTEN, [array(request_ids)]))


def intend(request_ids: Collection[UUID]) -> None:
    """Write that these requests, which have marked, have begun, unless the ledger says so. Raises StepFailed.

    Until it returns, no file and no export may be removed for them.
    """
    _write(request_id for (request_id,) in fetch(_NOT_INTENDED, [array(request_ids)]))


def conclude(erased: Mapping[UUID, Sequence[Line]]) -> Written:
    """Write what is erased for these requests (`lines.exact` and its like). Raises StepFailed.

    Confirm it in the transaction that completes them.
    """
    return objects.write([line for each in erased.values() for line in each], request_ids=erased)


def _write(request_ids: Iterable[UUID]) -> None:
    if ids := list(request_ids):
        written = objects.write(lines.accepted(ids), request_ids=ids)
        with transaction.atomic():
            written.confirm()
            execute(_DROP_ACCEPTED, [array(ids)])


def _write_some() -> int:
    """Write the next entries, and return how many they were."""
    entries = fetch(_NEXT, [_AT_ONCE])
    if not entries:
        return 0
    of_kind: dict[str, list[UUID]] = defaultdict(list)
    for _, kind, request_id, _ in entries:
        of_kind[kind].append(request_id)
    accepted, withdrawn = of_kind[JournalEntry.Kind.ACCEPTED], of_kind[JournalEntry.Kind.WITHDRAWN]
    prefixes = [prefix for *_, prefix in entries if prefix]
    written = objects.write(
        [*lines.accepted(accepted), *lines.withdrawn(withdrawn), *lines.revoked(prefixes)],
        request_ids=dict.fromkeys([*accepted, *withdrawn]),
        key_prefixes=prefixes,
    )
    with transaction.atomic():
        written.confirm()
        execute(_DROP_ENTRIES, [array(entry_id for entry_id, *_ in entries)])
    return len(entries)
