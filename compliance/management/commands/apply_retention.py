import sys
from typing import Any

from django.core.management.base import CommandError, CommandParser

from chatbots.management.base import find_chatbot
from chatbots.models import Chatbot
from common.commands import ACTOR, ReportingCommand
from compliance.retention import policy

NOT_FILED = 3


class Command(ReportingCommand):
    help = "File today's retention run of one chatbot, or of all with a period, without waiting for the night."
    examples = """\
Workers carry the run out: erase the conversations whose last message is older than the period, verify, and record it.
Safe to repeat: a chatbot gets one run a day. --dry-run counts what is due now, and files nothing.

examples:
  manage.py apply_retention acme --dry-run
  manage.py apply_retention acme
  manage.py apply_retention --all --json

exit codes: 0 filed, or nothing is due; 1 there is no such chatbot; 2 the command line is wrong; 3 not filed: no
period is set, a run waits or is under way, or today's was filed already
"""

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("slug", nargs="?", help="The chatbot.")
        parser.add_argument("--all", action="store_true", help="All chatbots with a period.")
        parser.add_argument("--dry-run", action="store_true", help="Count only; file nothing.")

    def handle(self, *args: Any, **options: Any) -> None:
        if bool(options["slug"]) == options["all"]:
            raise CommandError("Give a chatbot, or --all.", returncode=2)
        every = Chatbot.objects.filter(retention_days__isnull=False).order_by("slug")
        chatbots = [find_chatbot(options["slug"])] if options["slug"] else every
        outcomes = [_file(chatbot, dry_run=options["dry_run"]) for chatbot in chatbots]
        self.report({"chatbots": outcomes}, *(f"{one['chatbot']}: {_sentence(one)}" for one in outcomes))
        if any(one["refused"] for one in outcomes):
            sys.exit(NOT_FILED)


def _file(chatbot: Chatbot, *, dry_run: bool) -> dict[str, Any]:
    outcome: dict[str, Any] = {"chatbot": chatbot.slug, "retention_days": chatbot.retention_days}
    outcome |= dict.fromkeys(("due", "request_id", "refused"))
    if dry_run:
        return outcome | {"due": policy.count_due(chatbot)}
    try:
        request = policy.file_run(chatbot, actor=ACTOR)
    except policy.NotFiled as error:
        return outcome | {"refused": str(error)}
    return outcome | {"request_id": str(request.pk) if request else None}


def _sentence(one: dict[str, Any]) -> str:
    if one["refused"]:
        return str(one["refused"])
    if one["due"] is not None:
        return f"{one['due']:,} {'conversation is' if one['due'] == 1 else 'conversations are'} due"
    if one["retention_days"] is None:
        return "retention is off"
    return f"filed as request {one['request_id']}" if one["request_id"] else "nothing is due"
