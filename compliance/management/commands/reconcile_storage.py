import json
from typing import Any

from django.core.management.base import CommandError, CommandParser
from tqdm import tqdm

from common.commands import TeachingCommand
from common.storage import StorageError
from compliance.reconciliation.report import FixRefused, Report, reconcile


class Command(TeachingCommand):
    help = (
        "Compare the hosted bucket with the database, both ways: objects and old versions without a row (orphans), "
        "rows whose object is missing or of another size, multipart uploads that no worker will complete. It changes "
        "nothing without --fix."
    )
    examples = """\
examples:
  manage.py reconcile_storage
  manage.py reconcile_storage --json > report.json
  manage.py reconcile_storage --fix

--fix removes orphans for good, aborts the uploads, marks exports without a file as removed, and has daily extracts
rebuilt. It cannot be undone. It ignores everything younger than a day or outside the service's own folders. A missing
uploaded file is lost data and only reported. Rows are named by id, orphans by 12 hex digits of their key's SHA-256,
since a key can contain a chatter's value.

exit codes: 0 they agree, 1 the storage did not answer, 2 so much would be removed, or is missing, that --fix was
refused (see --force), 3 there are differences, or were before --fix: run it again to check
"""

    def add_arguments(self, parser: CommandParser) -> None:
        how = parser.add_mutually_exclusive_group()
        how.add_argument("--dry-run", action="store_true", help="Compare and report only (the default).")
        how.add_argument("--fix", action="store_true", help="Repair what can be.")
        parser.add_argument("--force", action="store_true", help="Fix even if over a fifth is removed or missing.")
        parser.add_argument("--json", action="store_true", help="Print the report as one JSON document.")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            with tqdm(unit=" objects", file=self.stderr, disable=None) as bar:
                report = reconcile(fix=options["fix"], force=options["force"], progress=bar.update)
        except FixRefused as refused:
            raise CommandError(str(refused), returncode=2) from None
        except StorageError as error:
            raise CommandError(f"{error.code}: {error.detail}") from None
        if options["json"]:
            self.stdout.write(json.dumps(report.as_dict()))
        else:
            self._tell(report)
        if not report.agrees:
            raise SystemExit(3)

    def _tell(self, report: Report) -> None:
        for folder, count in sorted(report.objects.items()):
            self.stdout.write(f"{folder}: {count:,} objects")
        for kind, counts in (("orphans", report.orphans), ("objects with old versions", report.old_versions)):
            for folder, count in counts.items():
                self.stdout.write(f"{folder}: {count:,} {kind}")
        for one in report.named_orphans:
            self.stdout.write("  " + " ".join(f"{name}={value}" for name, value in one.items()))
        for folder, count in report.stale_uploads.items():
            self.stdout.write(f"{folder}: {count:,} multipart uploads that no worker will complete")
        for kind, rows in (("missing", report.missing), ("of another size", report.of_another_size)):
            for store, ids in rows.items():
                self.stdout.write(f"{store}: object {kind}, rows {', '.join(map(str, ids))}")
        for what, count in (report.fixed or {}).items():
            self.stdout.write(f"fixed: {count:,} {what}")
        for code, count in report.refused.items():
            self.stdout.write(f"refused by storage: {count:,} {code}")
        self.stdout.write("Bucket and database agree." if report.agrees else "There are differences.")
