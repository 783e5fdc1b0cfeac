"""A copy of the database becomes a service of its own: another identity, another folder of the ledger.

Until then a copy has its original's name. It would write into the original's ledger, where the original finds objects
that it does not know.
"""

import logging
from dataclasses import dataclass
from itertools import islice
from uuid import UUID

from django.db import transaction
from uuid_utils.compat import uuid7

from chatbots.buckets import hosted_storage
from chatbots.models import Chatbot
from common.db import execute, fetch
from common.storage import StorageError
from compliance.ledger import objects, service
from compliance.models import JournalEntry, LedgerLine, LedgerObject, Service

logger = logging.getLogger(__name__)

# The ledger of the original names them. This one's has to, before anything is destroyed for them.
_OPEN_REQUESTS = """
INSERT INTO compliance_journalentry (kind, request_id, at)
SELECT 'accepted', id, clock_timestamp() FROM compliance_compliancerequest
 WHERE kind <> 'retention' AND status IN ('accepted', 'on_hold', 'processing', 'failed') ORDER BY seq
"""


class NotAdopted(Exception):
    """Nothing was changed. The text says why."""


@dataclass(frozen=True)
class Adoption:
    """What the service is now, and what it was.

    `shares_bucket`: whether the original's ledger is in this bucket; None if the storage did not answer.
    """

    service_id: UUID
    original_id: UUID
    was: Service.State
    shares_bucket: bool | None


def adopt_new_service() -> Adoption:
    """Give this database a new identity, and open it. Not to be undone. Raises NotAdopted during a replay.

    Nobody is erased by it: who was erased in the original since the copy was made is still here.
    """
    shares_bucket = _has_ledger(objects.folder())
    with transaction.atomic():
        [(is_alone,)] = fetch("SELECT pg_try_advisory_xact_lock(%s)", [service.REPLAY_LOCK])
        if not is_alone:
            raise NotAdopted("A replay is under way. Stop it first, if this is a copy.")
        service.current()
        row = Service.objects.select_for_update().get()
        original_id, was = row.service_id, Service.State(row.state)
        service.begin_incarnation()
        new_id = uuid7()
        Service.objects.update(service_id=new_id, replayed_at=None, mended_to=None)
        # They are about the original's ledger, and a replay of it.
        for model in (LedgerObject, LedgerLine, JournalEntry):
            model.objects.all().delete()
        Chatbot.objects.exclude(closed_at=None).update(closed_at=None)
        execute(_OPEN_REQUESTS, [])
    logger.warning("service.adopted service=%s original=%s", new_id, original_id)
    return Adoption(new_id, original_id, was, shares_bucket)


def _has_ledger(folder: str) -> bool | None:
    try:
        return bool(list(islice(hosted_storage().keys(folder), 1)))
    except StorageError:
        return None
