"""Whether the hosted bucket is there and can be written to. Workers try it before a request needs it."""

import logging

from chatbots.buckets.locations import hosted_storage
from chatbots.buckets.probe import WORKERS_KEY as KEY
from common import outbound
from common.storage import StorageError
from compliance.cluster import occurrences

logger = logging.getLogger(__name__)

_MISSING = occurrences.Name.BUCKET_MISSING
_EVERY_SECONDS = 300
_SECONDS = 10.0


def check_if_due() -> None:
    """Write an object and remove it, every five minutes; after a failure at each call. `health` reports a failure.

    A storage that does not answer is none: that is `storage_silent`. Call it outside any transaction.
    """
    if not occurrences.ask(_MISSING, every=_EVERY_SECONDS):
        return
    storage = hosted_storage()
    try:
        with outbound.within(_SECONDS):
            # Else each trial would leave a version more where versions are kept and may not be removed.
            storage.purge(KEY)
            storage.put(KEY, b"A check whether the service may write here.", "text/plain")
            storage.purge(KEY)
    except StorageError as error:
        occurrences.give_back(_MISSING)
        if not error.retryable:
            logger.warning("hosted_bucket.refused code=%s", error.code)
            occurrences.note(_MISSING)
    else:
        occurrences.forget(_MISSING)
