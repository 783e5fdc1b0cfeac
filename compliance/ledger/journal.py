"""Write promises to the ledger before they are carried out, and rewrite objects that the bucket has lost.

Triggers insert an entry for each accepted or withdrawn request, each revoked key and each change of a legal hold, in
the same transaction, so no code path can omit it. A worker writes the entries to the ledger every few seconds, never
the call that files: filing waits for no storage. Requests accepted since are lost with the database.

A request that is carried out before its turn in the journal is written by the worker that is about to
(`write_accepted`). Before a request removes files and exports, which no restore brings back, the ledger records that
it has begun (`intend`).

Objects are rewritten (`mend`) if the bucket was rolled back, or they were removed: under their own keys, in the
present incarnation, with the present state of their requests.
"""

import logging
import time
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import takewhile
from uuid import UUID

from django.db import transaction
from django.db.models.functions import Now

from chatbots.buckets import hosted_storage
from common.db import array, execute, fetch
from compliance.cluster import occurrences
from compliance.errors import StepFailed
from compliance.ledger import lines, objects
from compliance.ledger.content import Line
from compliance.ledger.objects import Written
from compliance.models import ComplianceRequest, JournalEntry, LedgerObject, Service
from compliance.work import health

logger = logging.getLogger(__name__)

_AT_ONCE = 5_000
_ROWS_AT_ONCE = 1_000
# For one call of `mend`, which one worker makes.
_SECONDS = 20.0

_UNWRITTEN = "SELECT request_id FROM compliance_journalentry WHERE request_id = ANY(%s) AND kind = 'accepted'"
# Two workers may drop the same entries: neither waits for the other.
_DROP = """
DELETE FROM compliance_journalentry
 WHERE id = ANY(ARRAY(SELECT id FROM compliance_journalentry WHERE {which} ORDER BY id FOR UPDATE SKIP LOCKED))
"""
_DROP_ENTRIES = _DROP.format(which="id = ANY(%s)")
_DROP_ACCEPTED = _DROP.format(which="request_id = ANY(%s) AND kind = 'accepted'")


def write_due() -> None:
    """Write the waiting entries, unless another worker has begun to in the last seconds.

    If the storage refuses, the entries wait.
    """
    if health.is_journal_due() and occurrences.ask(occurrences.Name.JOURNAL, every=health.JOURNAL_AGE_SECONDS):
        try:
            while _write_some() == _AT_ONCE:
                pass
        except StepFailed as failure:
            logger.warning("journal.not_written code=%s", failure.code)


def write_accepted(request_ids: Collection[UUID]) -> None:
    """Write these requests, except those that the ledger has already. Raises StepFailed.

    Until it returns, nothing may be destroyed for them.
    """
    _write(request_id for (request_id,) in fetch(_UNWRITTEN, [array(request_ids)]))


def intend(request_ids: Collection[UUID]) -> None:
    """Record in the ledger that these marked requests have begun, unless it has them as begun. Raises StepFailed.

    Until it returns, no file and no export may be removed for them.
    """
    # Requests that have removed something are in the ledger as begun, and retention runs with their conversations.
    new = ComplianceRequest.objects.filter(pk__in=request_ids, files=0, exports=0).exclude(kind="retention")
    _write(new.values_list("pk", flat=True))


def conclude(erased: Mapping[UUID, Sequence[Line]]) -> Written:
    """Write the lines of erased data of these requests (`lines.exact` and similar). Raises StepFailed.

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
    """Write the next entries, and return their number."""
    entries = JournalEntry.objects.order_by("pk").values_list("pk", "kind", "request_id", "key_prefix")[:_AT_ONCE]
    if not entries:
        return 0
    of_kind: dict[str, list[UUID]] = defaultdict(list)
    for _, kind, request_id, _ in entries:
        if request_id:
            of_kind[kind].append(request_id)
    accepted, withdrawn = of_kind[JournalEntry.Kind.ACCEPTED], of_kind[JournalEntry.Kind.WITHDRAWN]
    holds = list(dict.fromkeys(of_kind[JournalEntry.Kind.HOLD]))
    prefixes = [key_prefix for *_, key_prefix in entries if key_prefix]
    written = objects.write(
        [
            *lines.held(holds),
            *lines.accepted(accepted),
            *lines.withdrawn(withdrawn),
            *lines.revoked(prefixes),
        ],
        request_ids=dict.fromkeys([*holds, *accepted, *withdrawn]),
        key_prefixes=prefixes,
    )
    with transaction.atomic():
        written.confirm()
        execute(_DROP_ENTRIES, [array(entry_id for entry_id, *_ in entries)])
    return len(entries)


def begin_mending(gone: int) -> None:
    """Record that this number of objects is gone that were written according to the database."""
    if Service.objects.filter(mended_to=None).update(mended_to=0):
        occurrences.note(occurrences.Name.LEDGER_MISSING)
        logger.critical("ledger.missing objects=%s", gone)


def mend(*, seconds: float = _SECONDS) -> None:
    """Compare all rows with the bucket and rewrite missing objects, for some seconds. The next call continues there.

    Does nothing unless mending has begun, or while another worker does it. Raises StorageError and StepFailed.
    """
    begun = Service.objects.exclude(mended_to=None).values_list("mended_to", Now()).first()
    if begun is None or not occurrences.ask(occurrences.Name.LEDGER_MISSING, every=2 * seconds):
        return
    after, began_at = begun
    end = time.monotonic() + seconds
    number = 0
    while after is not None:
        kept = LedgerObject.objects.filter(pk__gt=after, at__gt=objects.expiry_cutoff())
        rows = list(kept.order_by("pk")[:_ROWS_AT_ONCE])
        listed = _listed([row.key for row in rows])
        for row in rows:
            # An object may have been written after the listing, and a listing can be out of date.
            is_written = row.written_at is not None and row.written_at < began_at
            if is_written and row.key not in listed and not hosted_storage().exists(row.key):
                _write_again(row)
                number += 1
        last = rows[-1].pk if rows else None
        if not Service.objects.filter(mended_to=after, state=Service.State.OPEN).update(mended_to=last):
            break  # the database was found to be restored
        after = last
        if time.monotonic() >= end:
            break
    logger.warning("ledger.mended objects=%s is_over=%s", number, after is None)


def _listed(keys: Collection[str]) -> Collection[str]:
    """Return which of these keys, and of those between them, the bucket has."""
    if not keys:
        return ()
    before, last = min(keys)[:-1], max(keys)
    return set(takewhile(lambda key: key <= last, hosted_storage().keys(objects.folder(), after=before)))


def _write_again(row: LedgerObject) -> None:
    first, *others = list(objects.parts(lines.current(row.request_ids, row.key_prefixes))) or [[]]
    if others:
        # The same requests can be in other objects too.
        more = [line for part in others for line in part]
        objects.write(more, request_ids=row.request_ids, key_prefixes=row.key_prefixes).confirm()
    objects.put(row.pk, objects.header(row.key, row.at), first).confirm()
