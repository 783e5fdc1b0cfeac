from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from django.core.management.base import CommandParser
from tqdm import tqdm

from common.commands import ReportingCommand
from compliance import rotation
from compliance.rotation import Report

# The number of rows of one store in the text.
_MOST_NAMED = 20


class Command(ReportingCommand):
    help = """Encrypt every stored secret under the newest key of ENCRYPTION_KEYS, the first.

Try to decrypt each of them, and report how many are under which key, before and after. Once none is left under an
older key, that key can be removed. Web server and workers go on meanwhile.
"""
    examples = """\
examples:
  manage.py rotate_secrets --dry-run
  manage.py rotate_secrets
  manage.py rotate_secrets --json > report.json

docs/operators/rotate-keys.md says in which order to change the setting. The command can be stopped and
repeated at any time. It changes the form in which a secret is stored, never the secret. Secrets that cannot be
decrypted are left as they are, and named by table, field and row.

exit codes: 0 all secrets are under the newest key, 3 some are not: they could not be decrypted, or --dry-run
"""

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--dry-run", action="store_true", help="Try and count only.")

    def handle(self, *args: Any, **options: Any) -> None:
        with tqdm(unit=" secrets", file=self.stderr, disable=None) as bar:
            report = rotation.rotate(dry_run=options["dry_run"], progress=bar.update)
        self.report(_document(report), *_lines(report))
        if not report.is_done:
            raise SystemExit(3)


def _lines(report: Report) -> Iterator[str]:
    for store in report.stores:
        counts = f"{_counts(store.before)} before, {_counts(store.after)} after"
        yield f"{store.name}: {counts}; {store.rotated:,} rotated"
        if store.unreadable:
            more = len(store.unreadable) - _MOST_NAMED
            rows = ", ".join(store.unreadable[:_MOST_NAMED]) + (f" and {more:,} more" if more > 0 else "")
            yield f"  {len(store.unreadable):,} cannot be decrypted, rows {rows}"
    for key_id, count in report.left.items():
        if key_id not in report.older:
            yield f"{count:,} left under {key_id}, which is not in ENCRYPTION_KEYS. Put it back, at the end."
        elif count:
            yield f"{count:,} left under {key_id}. Keep it in ENCRYPTION_KEYS."
        else:
            yield (
                f"0 left under {key_id}. If it is a former key, it can be removed from ENCRYPTION_KEYS an hour "
                f"after every process has {report.newest} as its first key; if it is the next one, put it first."
            )
    if report.is_done:
        yield f"All secrets are under {report.newest}."


def _counts(by_key: dict[str, int]) -> str:
    return ", ".join(f"{count:,} under {key_id}" for key_id, count in by_key.items()) or "none"


def _document(report: Report) -> dict[str, Any]:
    return {
        "newest": report.newest,
        "older": list(report.older),
        "left": report.left,
        "done": report.is_done,
        "stores": [asdict(store) for store in report.stores],
    }
