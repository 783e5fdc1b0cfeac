from collections.abc import Iterator
from typing import Any
from uuid import UUID

from django.core.management.base import CommandError, CommandParser

from common.commands import ReportingCommand
from common.db import sessions_find_by_index
from compliance.erasure import verify
from compliance.management.base import parse_request_id
from compliance.models import ComplianceRequest


class Command(ReportingCommand):
    help = (
        "Verify again that completed deletions, retention runs and redactions left nothing behind, in every table "
        "that they erase from."
    )
    examples = """\
examples:
  manage.py verify_erasure 0197a2b4-5c1e-7d30-9f10-3a5b7c9d1e2f
  manage.py verify_erasure --all --json

Chatters and conversations are found by their keyed digests, so what a restored backup brought back is noticed.
Digests are kept for ERASURE_LEDGER_DAYS; an older deletion is checked only by its marks. The bucket is not
searched: reconcile_storage does that.

exit codes: 0 nothing is left, 1 there is no such completed request, 3 something is left
"""

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("request_id", nargs="?", type=parse_request_id, help="One completed request.")
        parser.add_argument("--all", action="store_true", help="All completed ones.")

    @sessions_find_by_index()
    def handle(self, *args: Any, **options: Any) -> None:
        if (options["request_id"] is None) == (not options["all"]):
            raise CommandError("Give one request, or --all.")
        outcome = verify.audit(self._deletions(options["request_id"]))
        left = {str(request_id): leftovers.rows for request_id, leftovers in outcome.left.items()}
        self.report(
            {"verified": outcome.verified, "by_marks_alone": outcome.by_marks, "left": left},
            f"Verified: {outcome.verified:,}. Left something: {len(left):,}.",
            *_by_marks(outcome.by_marks),
            *(f"{request_id}: {leftovers}" for request_id, leftovers in outcome.left.items()),
        )
        if left:
            raise SystemExit(3)

    def _deletions(self, request_id: UUID | None) -> list[UUID]:
        deletions = ComplianceRequest.objects.filter(status=ComplianceRequest.Status.COMPLETED).exclude(
            kind=ComplianceRequest.Kind.EXPORT
        )
        if request_id is None:
            return list(deletions.order_by("seq").values_list("pk", flat=True))
        if not deletions.filter(pk=request_id).exists():
            raise CommandError("There is no completed deletion, retention run or redaction with this id.")
        return [request_id]


def _by_marks(count: int) -> Iterator[str]:
    if count == 1:
        yield "1 of them is so old that its digests are forgotten: it was checked only by its marks."
    elif count:
        yield (f"{count} of them are so old that their digests are forgotten: they were checked only by their marks.")
