import sys
from argparse import ArgumentTypeError
from typing import Any

from django.core.exceptions import ValidationError
from django.core.management.base import CommandError, CommandParser

from chatbots.management.base import find_chatbot
from chatbots.models import LONGEST_RETENTION, SHORTEST_RETENTION, Chatbot
from common.commands import ACTOR, ReportingCommand
from common.texts import counted
from compliance.models import ComplianceRequest
from compliance.retention import policy

NOT_CONFIRMED = 3

_RANGE = f"{SHORTEST_RETENTION} to {LONGEST_RETENTION}"


class Command(ReportingCommand):
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
                self._demand_confirmation(chatbot, days, options["confirm"])
            chatbot = policy.change_period(chatbot=chatbot, days=days, actor=ACTOR, confirmed=options["confirm"])
        except ValidationError as error:
            raise CommandError(" ".join(error.messages), returncode=2) from None
        run = policy.waiting_first_run(chatbot)
        lines = [f"{chatbot.slug}: retention {'off' if days is None else counted(days, 'day')}"]
        first = None
        if run and run.request:
            first = _first_run(run.announced, run.request)
            lines.append(f"first run: request {run.request_id}, not before {first['not_before']:%Y-%m-%d %H:%M} UTC")
        self.report(_document(chatbot, days, first, is_set=True), *lines)

    def _demand_confirmation(self, chatbot: Chatbot, days: int, confirmed: int | None) -> None:
        """Report the numbers and exit, unless `confirmed` is the number of conversations, or was not long ago."""
        found = policy.forecast(chatbot, days, is_quick=False)
        # The number changes while an operator reads it.
        if confirmed is not None and abs(found.first_run - confirmed) <= confirmed * policy.TOLERANCE:
            return
        self.report(
            _document(chatbot, days, _first_run(found.first_run), is_set=False),
            f"The first run, 24 hours after you set this, erases {counted(found.first_run, 'conversation')}; "
            f"in the 30 days after it {found.later:,} more become due.",
            f"Nothing is set yet. To set it: --confirm {found.first_run}",
        )
        sys.exit(NOT_CONFIRMED)


def _document(chatbot: Chatbot, days: int | None, first: dict[str, Any] | None, *, is_set: bool) -> dict[str, Any]:
    return {"chatbot": chatbot.slug, "retention_days": days, "is_set": is_set, "first_run": first}


def _first_run(number: int | None, request: ComplianceRequest | None = None) -> dict[str, Any]:
    filed = {"request_id": request and request.pk, "not_before": request and request.not_before}
    return {"conversations": number, **filed}


def _days(text: str) -> int | None:
    if text == "off":
        return None
    if not text.isdecimal() or not SHORTEST_RETENTION <= int(text) <= LONGEST_RETENTION:
        raise ArgumentTypeError(f"choose {_RANGE}, or off")
    return int(text)
