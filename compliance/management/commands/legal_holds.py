from typing import Any

from django.core.management.base import CommandParser

from chatbots.management.base import find_chatbot
from common.commands import ReportingCommand
from compliance.api.hold_schemas import IN_STATE, HoldObject
from compliance.management.base import line_of
from compliance.models import LegalHold


class Command(ReportingCommand):
    help = "List the legal holds of one chatbot, or of all, the newest first. A chatter's value is never shown."
    examples = """\
in_force includes those due for review: they are past their review date, and stay in force.

examples:
  manage.py legal_holds
  manage.py legal_holds acme --state due_for_review --json

exit codes: 0 listed, also if there are none; 1 there is no such chatbot
"""

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("slug", nargs="?", help="The chatbot.")
        parser.add_argument("--state", choices=IN_STATE, default="in_force", help="Which holds (in_force).")

    def handle(self, *args: Any, **options: Any) -> None:
        found = LegalHold.objects.filter(IN_STATE[options["state"]]).select_related("chatbot", "variable")
        if options["slug"]:
            found = found.filter(chatbot=find_chatbot(options["slug"]))
        holds = list(found.order_by("-pk"))
        shown = [HoldObject.of(hold).as_json() | {"chatbot": hold.chatbot.slug} for hold in holds]
        self.report({"holds": shown}, *map(line_of, holds), *([] if holds else ["There are none."]))
