from dataclasses import asdict
from typing import Any

from django.core.management.base import CommandError, CommandParser
from tqdm import tqdm

from common.commands import ReportingCommand
from common.texts import counted
from compliance import digests
from compliance.cluster import heartbeats


class Command(ReportingCommand):
    help = """Recompute keyed digests after another DIGEST_KEY was accepted.

Without it, deletions and exports do not find what was stored before. It recomputes those of conversations' ids, of
identities and of open requests. Those of erased data cannot be recomputed, since their values are gone.
"""
    examples = """\
examples:
  manage.py recompute_digests --dry-run
  manage.py recompute_digests

docs/operators/digest-key.md has the steps. Stop web server and workers before, and start them after it.
It can be stopped and repeated.

exit codes: 0 all fit the key, 1 a cluster of workers runs, 3 some do not: another row has the same conversation id or
value, which was stored under the new key before, or --dry-run found some
"""

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--dry-run", action="store_true", help="Count only.")

    def handle(self, *args: Any, **options: Any) -> None:
        is_dry = options["dry_run"]
        if not is_dry and heartbeats.is_any_alive():
            raise CommandError("A cluster of workers runs. Stop web server and workers first.")
        with tqdm(unit=" rows", file=self.stderr, disable=None) as bar:
            found = digests.recompute(dry_run=is_dry, progress=bar.update)
        self.report(
            {name: asdict(one) for name, one in found.items()},
            *(
                f"{name}: {counted(one.rows, 'row')}, {one.wrong - one.left:,} "
                + ("would be recomputed" if is_dry else f"recomputed, {one.left:,} left")
                for name, one in found.items()
            ),
        )
        if any(one.wrong if is_dry else one.left for one in found.values()):
            raise SystemExit(3)
