from typing import Any

from django.core.management.base import CommandError, CommandParser

from chatbots.management.base import find_chatbot
from common.commands import ACTOR
from compliance.errors import FAILURES
from compliance.management.base import DecidingCommand
from compliance.requests import decisions
from compliance.requests.reasons import Decision

_ONE_OR_ALL = "Name one request, or --all-failed and --code."


class Command(DecidingCommand):
    help = """Requeue a failed request with fresh attempts, or all that failed by one code.

Mend the cause first: --dry-run counts what would be retried.
"""
    examples = """\
examples:
  manage.py retry_request 0197a2b4-5c1e-7d30-9f10-3a5b7c9d1e2f --reason cause_mended
  manage.py retry_request --all-failed --code storage_access_denied --dry-run
  manage.py retry_request --all-failed --code storage_access_denied --chatbot acme --json

exit codes: 0 done (with --all-failed also if there was none), 1 there is no such chatbot, or the command line is
wrong, 2 refused (there is no such request, or it cannot be retried)
"""
    decision = Decision.RETRY
    nargs = "?"

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("--all-failed", action="store_true", help="All that failed by --code, in place of one.")
        parser.add_argument(
            "--code",
            choices=FAILURES,
            metavar="CODE",
            help=f"With --all-failed: the code they failed by: {', '.join(FAILURES)}.",
        )
        parser.add_argument("--chatbot", metavar="SLUG", help="With --all-failed: of this chatbot only.")
        parser.add_argument("--dry-run", action="store_true", help="With --all-failed: count them; change nothing.")

    def handle(self, *args: Any, **options: Any) -> None:
        if not options["all_failed"]:
            if options["code"] or options["chatbot"] or options["dry_run"]:
                raise CommandError("--code, --chatbot and --dry-run go with --all-failed.")
            if not options["request_id"]:
                raise CommandError(_ONE_OR_ALL)
            super().handle(*args, **options)
            return
        if options["request_id"] or not options["code"]:
            raise CommandError(_ONE_OR_ALL)
        count = decisions.retry_all_failed(
            code=options["code"],
            chatbot=find_chatbot(options["chatbot"]) if options["chatbot"] else None,
            reason=options["reason"],
            dry_run=options["dry_run"],
            actor=ACTOR,
        )
        verb = "would be retried" if options["dry_run"] else "retried"
        self.report({"dry_run": options["dry_run"], "retried": count}, f"{count:,} {verb}.")
