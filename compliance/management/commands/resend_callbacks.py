from typing import Any, ClassVar

from django.core.management.base import CommandError, CommandParser

from chatbots.management.base import find_chatbot
from common.commands import ACTOR, ReportingCommand
from compliance.callbacks import resend
from compliance.errors import Refused
from compliance.management.base import parse_request_id


class Command(ReportingCommand):
    help = """Send callbacks to clients' receivers again: all of one request, or all that were given up.

They have the same ids as before, so a receiver can drop what it knows. They go to the request's own address; once
that is forgotten, to the chatbot's. The workers send them.
"""
    examples = """\
examples:
  manage.py resend_callbacks 01a20e4f-2ccd-727b-ad28-e544e31ea60e
  manage.py resend_callbacks --given-up --chatbot acme --dry-run
  manage.py resend_callbacks --given-up --json

exit codes: 0 they wait to be sent (with --dry-run: would), 1 there is no such chatbot, or the command line is wrong,
2 refused, 3 some have no address left
"""

    refusals: ClassVar = {Refused: 2}

    def add_arguments(self, parser: CommandParser) -> None:
        which = parser.add_mutually_exclusive_group(required=True)
        which.add_argument("request_id", nargs="?", type=parse_request_id, help="All callbacks of this request.")
        which.add_argument("--given-up", action="store_true", help="All that were given up and are still on record.")
        parser.add_argument("--chatbot", metavar="SLUG", help="With --given-up: of this chatbot only.")
        parser.add_argument("--dry-run", action="store_true", help="Count what would be sent; change nothing.")

    def handle(self, *args: Any, **options: Any) -> None:
        if options["chatbot"] and not options["given_up"]:
            raise CommandError("--chatbot goes with --given-up.")
        outcome = self._resend(options)
        verb = "would be sent again" if options["dry_run"] else "to be sent again"
        self.report(
            {"dry_run": options["dry_run"], "resent": outcome.resent, "forgotten": outcome.forgotten},
            f"{outcome.resent:,} {verb}, {outcome.forgotten:,} have no address left.",
        )
        if outcome.forgotten:
            raise SystemExit(3)

    def _resend(self, options: dict[str, Any]) -> resend.Resent:
        dry_run = options["dry_run"]
        if options["given_up"]:
            chatbot = find_chatbot(options["chatbot"]) if options["chatbot"] else None
            return resend.resend_given_up(actor=ACTOR, chatbot=chatbot, dry_run=dry_run)
        return resend.resend_of_request(request_id=options["request_id"], actor=ACTOR, dry_run=dry_run)
