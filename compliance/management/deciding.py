"""The commands that decide on one request: each is one call into `decisions`."""

from collections.abc import Callable
from typing import Any, ClassVar

from django.core.management.base import CommandError, CommandParser

from common.commands import TeachingCommand
from compliance.errors import Refused
from compliance.management.base import parse_request_id, show
from compliance.models import ComplianceRequest
from compliance.requests.decisions import REASONS, Decision


class DecidingCommand(TeachingCommand):
    operation: ClassVar[Callable[..., ComplianceRequest]]
    decision: ClassVar[Decision]
    # As argparse has it: "?" where a request need not be named.
    nargs: ClassVar[str | None] = None

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("request_id", nargs=self.nargs, type=parse_request_id, help="The request's id.")
        parser.add_argument(
            "--reason",
            choices=REASONS[self.decision].values,
            metavar="REASON",
            help=f"Why, for the change log: {', '.join(REASONS[self.decision].values)}.",
        )
        parser.add_argument("--json", action="store_true", help="Print the request as one JSON document.")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            request = type(self).operation(
                request_id=options["request_id"], actor="command", reason=options["reason"]
            )
        except Refused as refused:
            raise CommandError(f"{refused.code}: {refused.detail}", returncode=2) from None
        show(self, request, as_json=options["json"])
