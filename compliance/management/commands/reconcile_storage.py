from collections.abc import Iterator
from typing import Any, ClassVar

from django.core.management.base import CommandParser
from tqdm import tqdm

from common.commands import ReportingCommand
from common.storage import StorageError
from common.texts import counted
from compliance.models import Service
from compliance.reconciliation.report import FixRefused, Report, reconcile


class Command(ReportingCommand):
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
rebuilt. It cannot be undone. It ignores everything younger than a day or outside the service's own folders, such as
the ledger of another service, and refuses in a restored database. A missing uploaded file is lost data and only
reported. Rows are named by id, orphans by 12 hex digits of their key's SHA-256, since a key can contain a chatter's
value.

exit codes: 0 they agree, 1 the storage did not answer, 2 so much would be removed, or is missing, that --fix was
refused (see --force), 3 there are differences, or were before --fix: run it again to check
"""

    refusals: ClassVar = {FixRefused: 2, StorageError: 1}

    def add_arguments(self, parser: CommandParser) -> None:
        how = parser.add_mutually_exclusive_group()
        how.add_argument("--dry-run", action="store_true", help="Compare and report only (the default).")
        how.add_argument("--fix", action="store_true", help="Repair what can be.")
        parser.add_argument("--force", action="store_true", help="Fix even if over a fifth is removed or missing.")

    def handle(self, *args: Any, **options: Any) -> None:
        with tqdm(unit=" objects", file=self.stderr, disable=None) as bar:
            report = reconcile(fix=options["fix"], force=options["force"], progress=bar.update)
        self.report(report.as_dict(), *_lines(report))
        if not report.agrees:
            raise SystemExit(3)


def _lines(report: Report) -> Iterator[str]:
    for part in (_object_lines, _row_lines, _restore_lines, _repair_lines):
        yield from part(report)
    but = ", but for what is younger than a day" if report.young else ""
    yield f"Bucket and database agree{but}." if report.agrees else "There are differences."


def _object_lines(report: Report) -> Iterator[str]:
    for folder, count in sorted(report.objects.items()):
        yield f"{folder}: {counted(count, 'object')}"
    for kind, counts in (("orphans", report.orphans), ("objects with old versions", report.old_versions)):
        for folder, count in counts.items():
            yield f"{folder}: {count:,} {kind}"
    for folder, count in report.young.items():
        yield f"{folder}: {counted(count, 'object')} without a row, younger than a day: run it again tomorrow"
    for one in report.named_orphans:
        yield "  " + " ".join(f"{name}={value}" for name, value in one.items())
    for folder, count in report.stale_uploads.items():
        yield f"{folder}: {count:,} multipart uploads that no worker will complete"
    for service_id, count in sorted(report.other_ledgers.items()):
        yield f"erasure_ledger: {counted(count, 'object')} of another service, {service_id}, left alone"


def _row_lines(report: Report) -> Iterator[str]:
    for kind, rows in (("missing", report.missing), ("of another size", report.of_another_size)):
        for store, ids in rows.items():
            yield f"{store}: object {kind}, rows {', '.join(map(str, ids))}"


def _restore_lines(report: Report) -> Iterator[str]:
    if report.state != Service.State.OPEN:
        yield (
            "The database was restored from a backup. Rows that lack their object may be of people who were erased "
            "since: run replay_erasures, and then compare again. Until then --fix refuses."
        )
    elif report.before_replay and report.replayed_at:
        yield (
            f"{counted(report.before_replay, 'object')} without a row, written before the replay ended, on "
            f"{report.replayed_at:%Y-%m-%d at %H:%M} UTC: most likely after the backup was made, so that the "
            "database has forgotten them. If there is a newer backup, restore that one: --fix removes them for good."
        )


def _repair_lines(report: Report) -> Iterator[str]:
    for what, count in (report.fixed or {}).items():
        yield f"fixed: {count:,} {what}"
    for code, count in report.refused.items():
        yield f"refused by storage: {count:,} {code}"
