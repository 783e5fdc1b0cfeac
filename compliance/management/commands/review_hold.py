from typing import Any

from django.core.management.base import CommandParser

from common.commands import ACTOR
from compliance import holds
from compliance.api.hold_schemas import HoldObject
from compliance.management.base import HoldCommand, find_hold, line_of
from compliance.requests.inputs import read_instant


class Command(HoldCommand):
    help = "Record that a legal hold was reviewed and is still needed, and set the next review."
    examples = """\
A hold stays in force after its review date; health, a metric and a mail to officers report it then.

examples:
  manage.py review_hold 0197a2b4-5c1e-7d30-9f10-3a5b7c9d1e2f --review-at 2027-05-01

exit codes: 0 done; 1 there is no such hold, or its chatbot is closed since a restore; 2 refused (it was released, or
the date is not within 12 months)
"""

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument(
            "--review-at",
            required=True,
            metavar="DATE",
            help="Within 12 months: a date in the chatbot's time zone, or an instant with an offset.",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        hold = find_hold(options["hold_id"])
        review_at = read_instant(options["review_at"], hold.chatbot, pointer="/review_at")
        reviewed = holds.review(chatbot=hold.chatbot, hold_id=hold.pk, review_at=review_at, actor=ACTOR)
        self.report(HoldObject.of(reviewed).as_json(), line_of(reviewed))
