import sys
from argparse import ArgumentTypeError
from typing import Any

from django.core.exceptions import ValidationError
from django.core.management.base import CommandError, CommandParser

from chatbots.management.base import find_chatbot
from chatbots.models import LONGEST_RETENTION, SHORTEST_RETENTION, Chatbot
from common.commands import ACTOR, TeachingCommand
from common.texts import counted
from compliance.retention import policy

NOT_CONFIRMED = 3

_RANGE = f"{SHORTEST_RETENTION} to {LONGEST_RETENTION}"


class Command(TeachingCommand):
    help = (
        "Set a chatbot's retention period: conversations are erased once their last message is older.\n"
        "It cannot be undone for what was erased."
    )
    examples = """\
Says first how many conversations the first run will erase, and changes nothing: to set the period, say it again with
--confirm and that number, which may have changed by a tenth since. The first run starts 24 hours later, and can be
cancelled until then (cancel_request). After that a run follows each night, after 03:00 in the chatbot's time zone.
A longer period than that in force, or off, needs no --confirm, and ends a run under way. A period whose first run
waits is not in force.

examples:
  manage.py set_retention acme 365                    how many conversations it would erase
  manage.py set_retention acme 365 --confirm 12041
  manage.py set_retention acme 45 --confirm 0
  manage.py set_retention acme off

exit codes: 0 set, 1 there is no such chatbot, 2 the command line is wrong, 3 nothing set: confirm the number
"""

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("slug", help="The chatbot.")
        listed = ", ".join(map(str, Chatbot.RetentionDays.values))
        parser.add_argument(
            "days", type=_days, help=f"Days after the last message: {_RANGE} (the product's list: {listed}); or off."
        )
        parser.add_argument(
            "--confirm", type=int, metavar="NUMBER", help="The number of conversations that the first run will erase."
        )

    def handle(self, *args: Any, **options: Any) -> None:
        chatbot, days = find_chatbot(options["slug"]), options["days"]
        try:
            policy.check_period(chatbot, days)
            if days is not None and policy.needs_confirmation(chatbot, days):
                self._demand_confirmation(policy.forecast(chatbot, days, is_quick=False), options["confirm"])
            chatbot = policy.change_period(chatbot=chatbot, days=days, actor=ACTOR, confirmed=options["confirm"])
        except ValidationError as error:
            raise CommandError(" ".join(error.messages), returncode=2) from None
        run = policy.waiting_first_run(chatbot)
        self.stdout.write(f"{chatbot.slug}: retention {'off' if days is None else counted(days, 'day')}")
        if run and run.request:
            self.stdout.write(
                f"first run: request {run.request_id}, not before {run.request.not_before:%Y-%m-%d %H:%M} UTC"
            )

    def _demand_confirmation(self, found: policy.Forecast, confirmed: int | None) -> None:
        """Report the numbers and exit, unless `confirmed` is the number of conversations, or was not long ago."""
        # The number changes while an operator reads it.
        if confirmed is not None and abs(found.first_run - confirmed) <= confirmed * policy.TOLERANCE:
            return
        self.stdout.write(
            f"The first run, 24 hours after you set this, erases {counted(found.first_run, 'conversation')}; "
            f"in the 30 days after it {found.later:,} more become due.\n"
            f"Nothing is set yet. To set it: --confirm {found.first_run}"
        )
        sys.exit(NOT_CONFIRMED)


def _days(text: str) -> int | None:
    if text == "off":
        return None
    if not text.isdecimal() or not SHORTEST_RETENTION <= int(text) <= LONGEST_RETENTION:
        raise ArgumentTypeError(f"choose {_RANGE}, or off")
    return int(text)
