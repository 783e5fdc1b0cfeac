"""Write objects of the ledger again that the bucket has lost: it was rolled back, or somebody removed them.

Under their own keys, in the present incarnation, with what is true today of the requests that they named.
"""

import logging
import time
from collections.abc import Collection
from datetime import UTC
from hashlib import sha256
from itertools import takewhile

from chatbots.buckets import hosted_storage
from common.db import execute, fetch_one
from compliance.ledger import content, lines, objects, service
from compliance.ledger.content import Header
from compliance.models import LedgerObject, Service
from compliance.work import occurrences

logger = logging.getLogger(__name__)

_ROWS_AT_ONCE = 1000
# For one call, which one worker makes.
_SECONDS = 20.0

_BEGIN = "UPDATE compliance_service SET mended_to = 0 WHERE mended_to IS NULL"
_BEGUN = "SELECT mended_to, clock_timestamp() FROM compliance_service WHERE mended_to IS NOT NULL"
_GO_ON = "UPDATE compliance_service SET mended_to = %s WHERE mended_to = %s AND state = 'open'"
_WRITTEN = "UPDATE compliance_ledgerobject SET sha256 = %s, written_at = statement_timestamp() WHERE id = %s"


def begin(gone: int) -> None:
    """Note that so many objects are gone, of which the database says that they were written."""
    if execute(_BEGIN):
        occurrences.note(occurrences.Name.LEDGER_MISSING)
        logger.critical("ledger.missing objects=%s", gone)


def go_on(*, seconds: float = _SECONDS) -> None:
    """Compare all rows with the bucket and write again what is gone, for some seconds. The next call goes on there.

    Does nothing unless it has begun, or while another worker does it. Raises StorageError and StepFailed.
    """
    begun = fetch_one(_BEGUN)
    if begun is None or not occurrences.ask(occurrences.Name.LEDGER_MISSING, every=2 * seconds):
        return
    after, began_at = begun
    end = time.monotonic() + seconds
    number = 0
    while after is not None:
        kept = LedgerObject.objects.filter(pk__gt=after, at__gt=objects.last_kept())
        rows = list(kept.order_by("pk")[:_ROWS_AT_ONCE])
        listed = _listed([row.key for row in rows])
        for row in rows:
            # What is being written just now may have come after the listing.
            # And a listing can be out of date.
            if (
                row.key not in listed
                and row.written_at is not None
                and row.written_at < began_at
                and not hosted_storage().exists(row.key)
            ):
                _write_again(row, service.current())
                number += 1
        last = rows[-1].pk if rows else None
        if not execute(_GO_ON, [last, after]):
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


def _write_again(row: LedgerObject, ours: Service) -> None:
    first, *others = list(objects.parts(lines.current(row.request_ids, row.key_prefixes))) or [[]]
    if others:
        # Of other objects too, which named the same requests.
        more = [line for part in others for line in part]
        objects.write(more, request_ids=row.request_ids, key_prefixes=row.key_prefixes).confirm()
    sealed = content.seal(Header(row.key, ours.service_id, ours.incarnation, row.at.astimezone(UTC)), first)
    hosted_storage().put(row.key, sealed, content_type=objects.CONTENT_TYPE)
    execute(_WRITTEN, [sha256(sealed).digest(), row.pk])
