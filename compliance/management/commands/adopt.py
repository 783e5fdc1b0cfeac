import logging
from itertools import islice
from typing import Any
from uuid import UUID

from django.core.management.base import CommandError, CommandParser
from django.db import transaction
from uuid_utils.compat import uuid7

from chatbots.buckets import hosted_storage
from chatbots.models import Chatbot
from common.commands import ReportingCommand
from common.db import execute, fetch
from common.storage import StorageError
from compliance.ledger import objects, service
from compliance.models import JournalEntry, LedgerLine, LedgerObject, Service

logger = logging.getLogger(__name__)

# These requests are in the original's ledger. They must be in this one's before anything is destroyed for them.
_OPEN_REQUESTS = """
INSERT INTO compliance_journalentry (kind, request_id, at)
SELECT 'accepted', id, clock_timestamp() FROM compliance_compliancerequest
 WHERE kind <> 'retention' AND status IN ('accepted', 'on_hold', 'processing', 'failed') ORDER BY seq
"""

_WHAT = """\
This database becomes a service of its own, with a new id and a ledger of its own, and is opened. This is for copies,
such as one for tests, and cannot be undone. People who were erased in the original since the copy was made are still
in it, and no command finds them here. Older backups lack the erasures of this service from now on. If it is
the original, restored from a backup, run replay_erasures instead.
"""


_SHARED = (
    "The bucket has the original's ledger. If it is the original's bucket, and no copy of it, stop the workers and "
    "set another S3_BUCKET: this service would remove the original's files as they expire."
)


class Command(ReportingCommand):
    help = """Give a copy of the database an identity of its own, and open it.

A database that was loaded from a dump, or copied to another server, is closed until it is known what it is. If it
goes its own way beside the original, it needs another id, and its ledger another folder. People who were erased in
the original since the copy was made are still in the copy. It cannot be undone.
"""
    examples = """\
examples:
  manage.py adopt --new-service
  manage.py adopt --new-service --yes --json

First give the copy a bucket of its own (S3_BUCKET), and take away what would reach clients and officers: EMAIL_URL,
access to the internet. Once open, workers carry out what waits in it. It asks for confirmation, unless --yes.

Never run it in the original: backups from before then do not find the ledger that is written from then on.

exit codes: 0 done, 1 not confirmed, or a replay is under way, and nothing was changed
"""

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--new-service", action="store_true", required=True, help="Take on a new identity.")
        parser.add_argument("--yes", action="store_true", help="Do not ask.")

    def handle(self, *args: Any, **options: Any) -> None:
        if not options["yes"]:
            now = f"It is now the service {service.current().service_id}, {service.state().label}."
            self.confirm(f"{_WHAT}{now}", word="new service")
        shares_bucket = _has_ledger(objects.folder())
        before, new_id = _adopt()
        document = {
            "service_id": new_id,
            "original_id": before.service_id,
            "was": before.state,
            "state": service.state(),
            "shares_bucket": shares_bucket,
        }
        self.report(
            document,
            f"This was the service {before.service_id}. It is {new_id} now, and open.",
            "People who were erased in the original since the copy was made are still here.",
            *([_SHARED] if shares_bucket else []),
        )


def _adopt() -> tuple[Service, UUID]:
    """Give this database a new identity, and open it; return the former one, and the new id.

    Otherwise a copy would write into its original's ledger, where the original finds objects without a row.
    """
    with transaction.atomic():
        [(is_alone,)] = fetch("SELECT pg_try_advisory_xact_lock(%s)", [service.REPLAY_LOCK])
        if not is_alone:
            raise CommandError("A replay is under way. Stop it first, if this is a copy.")
        before = Service.objects.select_for_update().get()
        service.begin_incarnation()
        new_id = uuid7()
        Service.objects.update(service_id=new_id, replayed_at=None, mended_to=None)
        # They are about the original's ledger, and a replay of it.
        for model in (LedgerObject, LedgerLine, JournalEntry):
            model.objects.all().delete()
        Chatbot.objects.exclude(closed_at=None).update(closed_at=None)
        execute(_OPEN_REQUESTS)
    logger.warning("service.adopted service=%s original=%s", new_id, before.service_id)
    return before, new_id


def _has_ledger(folder: str) -> bool | None:
    """Return whether the original's ledger is in this bucket; None if the storage does not answer."""
    try:
        return bool(list(islice(hosted_storage().keys(folder), 1)))
    except StorageError:
        return None
