import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

from django.core.management.base import CommandError, CommandParser

from common.commands import TeachingCommand
from compliance.cluster import heartbeats
from conversations.placement import distribution
from conversations.placement.coordinator import NotDistributable
from conversations.placement.distribution import Step

_MEGABYTE = 1024 * 1024


class Command(TeachingCommand):
    help = """Distribute the conversation tables over the machines of Citus, by chatbot.

DATABASE_URL names the coordinator, as the role that owns the tables. Back the database up before, and stop web
servers and workers: nothing works on it meanwhile, and only a dump leads back. If it is killed, run it again: it goes
on. Where all is distributed it does nothing.
"""
    examples = """\
examples:
  manage.py distribute --dry-run
  manage.py distribute
  manage.py distribute --shards 64 --yes

docs/operators/citus.md has the steps before and after it. It asks for confirmation, unless --yes.

exit codes: 0 all is distributed (or would be), 1 nothing was begun, or it stopped at a step: says why, and what to
do; what was done before stays done, 130 interrupted
"""
    refusals: ClassVar = {NotDistributable: 1}
    # These checks refuse a database that is distributed in part. This command continues the distribution.
    requires_system_checks = ()

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--shards",
            type=int,
            default=distribution.SHARDS,
            metavar="N",
            help="Into how many shards each table is divided, for good: later one can be split, but not all anew. "
            "Count the machines to come, and eight shards for each, for fair shares. The default, %(default)s, suits "
            "four machines, and serves 32 at most. All data of a chatbot is in one shard.",
        )
        parser.add_argument("--dry-run", action="store_true", help="Print the remaining steps; change nothing.")
        parser.add_argument("--yes", action="store_true", help="Do not ask.")

    def handle(self, *args: Any, **options: Any) -> None:
        shards = options["shards"]
        try:
            steps = distribution.plan(shards=shards)
            if options["dry_run"] or not steps:
                self._list(steps)
                return
            if heartbeats.is_any_alive():
                raise CommandError("A cluster of workers runs. Stop web servers and workers first.")
            if not options["yes"]:
                self.confirm(f"{_sizes(steps)} Only a dump leads back: have a backup.", word="distribute")
            distribution.distribute(shards=shards, progress=self._progress)
        except KeyboardInterrupt:
            raise CommandError("Interrupted. What was done stays done: run it again.", returncode=130) from None
        self.stdout.write("All is distributed. Run ANALYZE, then start web servers and workers.")

    def _list(self, steps: list[Step]) -> None:
        for number, step in enumerate(steps, start=1):
            self.stdout.write(f"{number}. {step.summary}\n   {step.statement};")
        if steps:
            self.stdout.write(f"{_sizes(steps)} Nothing was changed.")
        else:
            self.stdout.write("Nothing is left: all is distributed.")

    @contextmanager
    def _progress(self, step: Step) -> Iterator[None]:
        size = f" ({step.copies / _MEGABYTE:,.1f} MiB)" if step.copies else ""
        self.stdout.write(f"{step.summary}{size} ... ", ending="")
        self.stdout.flush()
        begun = time.monotonic()
        yield
        self.stdout.write(f"{time.monotonic() - begun:,.1f} s")


def _sizes(steps: list[Step]) -> str:
    """Describe the remaining work in a sentence."""
    copied = sum(step.copies for step in steps) / _MEGABYTE
    return f"Steps: {len(steps)}. Data that is copied to other machines, without indexes: {copied:,.1f} MiB."
