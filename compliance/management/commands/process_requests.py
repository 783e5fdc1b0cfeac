import math
from typing import Any

from django.core.management.base import CommandParser
from django.db.models import Count

from common.commands import ReportingCommand
from common.db import sessions_find_by_index
from common.isolation import Isolation
from compliance import worker
from compliance.callbacks import queue as callbacks
from compliance.cluster import occurrences
from compliance.lookups import queue as lookups
from compliance.models import ComplianceRequest
from compliance.notifications import delivery as mails


class Command(ReportingCommand):
    help = (
        "Carry out waiting requests here and now, without a cluster, send callbacks and mails, and look up "
        "identities. Safe to run beside one."
    )
    examples = """\
examples:
  manage.py process_requests
  manage.py process_requests --seconds 60 --json

exit codes: 0 nothing is left that can be taken, 1 something due by time failed (`part.failed` in the log), 3 the time
was over first, or the database refuses work for now
"""

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--seconds", type=float, default=math.inf, help="Stop after about so long (no limit).")

    @sessions_find_by_index()
    def handle(self, *args: Any, **options: Any) -> None:
        with Isolation() as isolated:
            with isolated.part("sweep"):
                worker.sweep()
            is_time_over = worker.drain(seconds=options["seconds"])
            is_refused = occurrences.is_resting()
            callbacks.deliver()
            lookups.look_up()
            mails.deliver()
        states = dict(ComplianceRequest.objects.order_by("status").values_list("status").annotate(number=Count("pk")))
        text = ", ".join(f"{number:,} {status}" for status, number in states.items())
        self.report(
            {"requests": states, "time_over": is_time_over, "database_refused": is_refused},
            f"All requests, by state: {text or 'none'}.",
            *(["The database refuses work for now. Run it again later."] if is_refused else []),
        )
        if is_time_over or is_refused:
            raise SystemExit(3)
