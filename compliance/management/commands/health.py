from collections.abc import Iterator
from typing import Any

from django.core.management.base import CommandError
from django.db import OperationalError

from common.commands import ReportingCommand
from common.logs import describe_kind
from compliance.cluster.heartbeats import Cluster
from compliance.cluster.occurrences import Name
from compliance.work import health
from compliance.work.health import Health


class Command(ReportingCommand):
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

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            found = health.check()
        except OperationalError as error:
            raise CommandError(f"The database does not answer: {describe_kind(error)}.") from None
        self.report(_document(found), *_lines(found))
        if found.problems:
            raise SystemExit(1)


def _lines(found: Health) -> Iterator[str]:
    for cluster in found.clusters:
        yield f"cluster {cluster.beat.name}: {cluster.condition}, last seen {cluster.beat.seen_at:%Y-%m-%d %H:%M:%S}"
    waits = f"{found.oldest.age.total_seconds():,.0f} seconds" if found.oldest else "nothing waits"
    yield f"oldest request that may be taken: {waits}"
    for problem in found.problems:
        yield f"{problem.code}: {problem.detail}"
    if not found.problems:
        yield "All is well."


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
