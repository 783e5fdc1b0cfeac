from typing import Any

from django.core.management.base import CommandParser

from common.commands import ACTOR
from common.texts import counted
from compliance import hold_coverage, holds
from compliance.api.hold_schemas import ReleasedHold
from compliance.hold_coverage import Waiting
from compliance.management.base import HoldCommand, find_hold, line_of
from compliance.models import ComplianceRequest, LegalHold


class Command(HoldCommand):
    help = "Release a legal hold. The requests that only it keeps continue at once, and erase what it has held."
    examples = """\
Another person than the one who placed a hold releases it. All commands count as one person, so a hold that a command
has placed is released by an officer in the console, and by no command.
--dry-run names the requests that wait for the hold, with the number of conversations that each would then erase.

examples:
  manage.py release_hold 0197a2b4-5c1e-7d30-9f10-3a5b7c9d1e2f --reason matter_closed --dry-run
  manage.py release_hold 0197a2b4-5c1e-7d30-9f10-3a5b7c9d1e2f --reason matter_closed

exit codes: 0 released; 1 there is no such hold, or its chatbot is closed since a restore; 2 refused (it was released
before, or a command has placed it)
"""

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        reasons = LegalHold.ReleaseReason.values
        parser.add_argument(
            "--reason",
            required=True,
            choices=reasons,
            metavar="REASON",
            help=f"The reason for the change log: {', '.join(reasons)}.",
        )
        parser.add_argument("--dry-run", action="store_true", help="Name what would continue; release nothing.")

    def handle(self, *args: Any, **options: Any) -> None:
        hold = find_hold(options["hold_id"])
        if options["dry_run"]:
            waiting = hold_coverage.waiting_for(hold)
            documents = [
                {"request_id": one.request.pk, "kind": one.request.kind}
                | {"conversations": one.conversations, "held_by_others": one.held_by_others}
                for one in waiting
            ]
            self.report({"waiting_requests": documents}, *map(_sentence, waiting), "Nothing was released.")
            return
        released, continued = holds.release(
            chatbot=hold.chatbot, hold_id=hold.pk, reason=options["reason"], actor=ACTOR
        )
        document = ReleasedHold.of(released, continued=continued).as_json()
        self.report(document, line_of(released), *(f"{request_id} continues." for request_id in continued))


def _sentence(one: Waiting) -> str:
    request = f"{one.request.kind} {one.request.pk}"
    if one.held_by_others:
        return f"{request} stays on hold: other holds cover {counted(one.held_by_others, 'conversation')}."
    if one.request.kind == ComplianceRequest.Kind.REDACTION:
        return f"{request} would continue."
    return f"{request} would erase {counted(one.conversations, 'conversation')}."
