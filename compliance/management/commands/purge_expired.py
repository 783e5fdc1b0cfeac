from typing import Any, ClassVar

from django.core.management.base import CommandParser
from tqdm import tqdm

from common.commands import ReportingCommand
from common.db import sessions_find_by_index
from common.storage import StorageError
from compliance.retention import expiry
from compliance.retention.objects import Cleanup


class Command(ReportingCommand):
    help = (
        "Remove all expired data: hosted files after HOSTED_FILE_DAYS or their grace, unfinished uploads, values of "
        "variables, digests of erased data, references of ended requests, remembered calls, callbacks, ended "
        "sessions and log-ins. It cannot be undone."
    )
    examples = """\
examples:
  manage.py purge_expired --dry-run
  manage.py purge_expired --json

Workers do a share of this every minute. This command does all of it, with or without a worker. An object that storage
refuses to remove stays, with its row, and the next run tries again.

exit codes: 0 all is removed, 1 the storage or the database did not answer, 3 storage refused something
"""

    refusals: ClassVar = {StorageError: 1}

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--dry-run", action="store_true", help="Count only; remove nothing.")

    @sessions_find_by_index()
    def handle(self, *args: Any, **options: Any) -> None:
        expired = expiry.count_expired()
        if options["dry_run"]:
            self._report({"dry_run": True, "expired": expired})
            return
        with tqdm(total=sum(expired.values()), unit=" rows", file=self.stderr, disable=None) as bar:
            run = expiry.remove_expired(Cleanup(is_whole=True, progress=bar.update))
        self._report({"removed": {store: run.removed[store] for store in expired}, "refused": dict(run.refused)})
        if run.refused:
            raise SystemExit(3)

    def _report(self, outcome: dict[str, Any]) -> None:
        counts = [(title, outcome.get(title, {})) for title in ("expired", "removed", "refused")]
        self.report(
            outcome,
            *(f"{title}: {count:,} {store}" for title, stores in counts for store, count in stores.items()),
        )
