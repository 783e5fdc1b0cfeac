from typing import Any, ClassVar

from django.core.management.base import CommandError, CommandParser

from chatbots.management.base import find_open_chatbot
from common.commands import ACTOR, ReportingCommand
from common.texts import counted
from compliance import holds
from compliance.api.hold_schemas import CountedHold, HoldCounts
from compliance.errors import Refused
from compliance.hold_coverage import Coverage
from compliance.holds import HoldInput
from compliance.management.base import add_selector_arguments, line_of, read_selector
from compliance.models import LegalHold
from compliance.requests.inputs import read_instants


class Command(ReportingCommand):
    help = (
        "Place a legal hold: keep data from every erasure until the hold is released.\n"
        "It covers what is stored, and what is stored later. What is being erased already is only counted."
    )
    examples = """\
Deletions and redactions that meet it are on hold (legal_hold) and continue after its release. Another person than the
one who placed a hold releases it, and all commands count as one: an officer releases this hold in the console.
Safe to repeat: an equal hold that is in force is shown instead.

examples:
  manage.py place_hold acme member_id 42 --matter CASE-0815 --basis legal_claims --review-at 2027-05-01 --dry-run
  echo 42 | manage.py place_hold acme member_id - --matter CASE-0815 --basis legal_claims --review-at 2027-05-01
  manage.py place_hold acme --conversation c-1001 --matter CASE-0815 --basis authority_order --review-at 2027-05-01
  manage.py place_hold acme --whole-chatbot --began-before 2026-11-01 --matter CASE-0815 --basis legal_obligation \\
      --review-at 2027-05-01 --json

exit codes: 0 placed; 1 there is no such chatbot, it is closed since a restore, or nothing is named; 2 refused
"""
    refusals: ClassVar = {Refused: 2}

    def add_arguments(self, parser: CommandParser) -> None:
        add_selector_arguments(parser)
        time = "a date in the chatbot's time zone, or an instant with an offset."
        parser.add_argument("--whole-chatbot", action="store_true", help="All conversations of the chatbot.")
        parser.add_argument("--matter", required=True, help="Your own reference; must contain neither value nor id.")
        parser.add_argument("--basis", required=True, choices=LegalHold.Basis.values, help="Why the data is kept.")
        parser.add_argument("--review-at", required=True, metavar="DATE", help=f"Within 12 months: {time}")
        parser.add_argument("--began-from", metavar="DATE", help=f"Conversations that began then or later: {time}")
        parser.add_argument("--began-before", metavar="DATE", help=f"Conversations that began before: {time}")
        parser.add_argument("--dry-run", action="store_true", help="Count only; place nothing.")

    def handle(self, *args: Any, **options: Any) -> None:
        chatbot = find_open_chatbot(options["slug"])
        if options["whole_chatbot"] and (options["key"] or options["conversation"]):
            raise CommandError("Give a chatter, conversations, or --whole-chatbot.")
        asked = HoldInput(
            selector=None if options["whole_chatbot"] else read_selector(options),
            matter=options["matter"],
            basis=options["basis"],
            **read_instants({name: options[name] for name in holds.TIMES}, chatbot),
        )
        if options["dry_run"]:
            counts = holds.preview(chatbot=chatbot, given_input=asked)
            self.report(HoldCounts.model_validate(counts).as_json(), _sentence(counts), "Nothing was placed.")
            return
        hold, counts, is_equal = holds.place(chatbot=chatbot, given_input=asked, actor=ACTOR)
        if is_equal:
            self.stderr.write("Nothing was placed: an equal hold is in force, and its review stays as it is.")
        self.report(CountedHold.of(hold, **counts._asdict()).as_json(), line_of(hold), _sentence(counts))


def _sentence(counts: Coverage) -> str:
    held = counted(counts.held, "conversation")
    return (
        f"Holds {held}. Already being erased: {counts.already_marked:,}. Already erased: {counts.already_erased:,}."
    )
