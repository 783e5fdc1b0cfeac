import json
from typing import Any

from django.core.management.base import CommandError, CommandParser
from django.core.serializers.json import DjangoJSONEncoder
from django.db import OperationalError

from common.commands import TeachingCommand
from common.logs import describe_kind
from compliance.work import health
from compliance.work.health import Health
from compliance.work.heartbeats import Cluster
from compliance.work.occurrences import Name


class Command(TeachingCommand):
    help = (
        "Report problems of the service: which clusters are alive, how long the oldest request has waited that "
        "may be taken, whether the sweep runs. Reads only few rows."
    )
    examples = """\
examples:
  manage.py health
  manage.py health --json

Run it every minute and alert on the exit code. It does not report single requests that failed or are held; the
console and the mails to officers do.

exit codes: 0 healthy, 1 a problem (each has a code and says what to do), or the database does not answer
"""

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--json", action="store_true", help="Print one JSON document.")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            found = health.check()
        except OperationalError as error:
            raise CommandError(f"The database does not answer: {describe_kind(error)}.") from None
        if options["json"]:
            self.stdout.write(json.dumps(_document(found), cls=DjangoJSONEncoder))
        else:
            self._tell(found)
        if found.problems:
            raise SystemExit(1)

    def _tell(self, found: Health) -> None:
        for cluster in found.clusters:
            seen_at = f"{cluster.beat.seen_at:%Y-%m-%d %H:%M:%S}"
            self.stdout.write(f"cluster {cluster.beat.name}: {cluster.condition}, last seen {seen_at}")
        waits = f"{found.oldest.age.total_seconds():,.0f} seconds" if found.oldest else "nothing waits"
        self.stdout.write(f"oldest request that may be taken: {waits}")
        for problem in found.problems:
            self.stdout.write(f"{problem.code}: {problem.detail}")
        if not found.problems:
            self.stdout.write("All is well.")


def _document(found: Health) -> dict[str, Any]:
    return {
        "at": found.at,
        "well": not found.problems,
        "problems": [problem._asdict() for problem in found.problems],
        "clusters": [_as_json(cluster) for cluster in found.clusters],
        "oldest_waiting_seconds": found.oldest.age.total_seconds() if found.oldest else 0,
        "claims": len(found.claims),
        "expired_claims": len(found.expired_claims),
        "tasks_waiting": found.tasks_waiting,
        "last_sweep": found.last[Name.SWEEP].last_at,
        "silent": [silent._asdict() for silent in found.silent],
    }


def _as_json(cluster: Cluster) -> dict[str, object]:
    names = ("name", "version", "workers", "started_at", "seen_at", "worked_at")
    of_beat = {name: getattr(cluster.beat, name) for name in names}
    return of_beat | {"condition": cluster.condition, "is_cleared_up": cluster.beat.died_at is not None}
