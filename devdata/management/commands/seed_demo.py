import argparse
import json
import sys
import time
from typing import Any

from django.core.management.base import CommandError, CommandParser
from tqdm import tqdm

from chatbots.buckets import hosted_storage
from common.commands import TeachingCommand
from common.storage import StorageError
from common.texts import counted
from conversations.intake import DocumentOutcome, IntakeFailed
from devdata.loader import LoadResult, load
from devdata.sample_data import COMPANIES


class Command(TeachingCommand):
    help = (
        f"Fill a development copy with invented conversations: {len(COMPANIES)} companies in different time zones,\n"
        "every channel and kind of message, several languages and scripts, files, scores, people without an\n"
        "identity, and windows that two people shared. Safe to run again: existing data stays as it is."
    )
    examples = """\
examples:
  manage.py seed_demo
  manage.py seed_demo --scale 100 --json
  manage.py request_export lantern-books member_id M-10000 --wait    (then, with a worker or process_requests)

exit codes: 0 done, 1 refused: the database or the storage does not answer
"""

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--scale",
            type=_scale,
            default=1,
            metavar="N",
            help=f"How many times {sum(company.conversations for company in COMPANIES)} conversations (1).",
        )
        parser.add_argument("--json", action="store_true", help="Print the counts as one JSON document.")

    def handle(self, *args: Any, **options: Any) -> None:
        began = time.monotonic()
        try:
            results = _load_all(scale=options["scale"])
        except IntakeFailed as error:
            raise CommandError(f"The database refused: {error}. Run it again when fixed.") from None
        except StorageError as error:
            raise CommandError(f"{error.code}: {error.detail}") from None
        seconds = time.monotonic() - began
        if options["json"]:
            summary = {"chatbots": [_as_json(result) for result in results], "seconds": round(seconds, 3)}
            self.stdout.write(json.dumps(summary, ensure_ascii=False))
            return
        for result in results:
            self._print(result)
        first = COMPANIES[0]
        self.stdout.write(
            f"Done in {seconds:.1f} s. Export a chatter: "
            f"manage.py request_export {first.slug} {first.uci.name} {first.uci_value(0)} --wait"
        )

    def _print(self, result: LoadResult) -> None:
        company = result.company
        outcomes = ", ".join(f"{result.outcomes[one]:,} {one}" for one in DocumentOutcome if result.outcomes[one])
        self.stdout.write(
            f"{company.slug} ({company.timezone}, UCI {company.uci.name} such as {company.uci_value(0)}): "
            f"{counted(result.outcomes.total(), 'conversation')}, {outcomes}; "
            f"{counted(result.messages, 'message')} and {counted(result.files, 'file')} new."
        )
        if result.outcomes[DocumentOutcome.REFUSED]:
            self.stdout.write("  Refused: deleted since, or the chatbot's variables differ from the sample's.")


def _load_all(*, scale: int) -> list[LoadResult]:
    hosted_storage().create_bucket_if_missing()
    total = scale * sum(company.conversations for company in COMPANIES)
    with tqdm(total=total, unit=" conversations", file=sys.stderr, disable=None) as progress:
        return [
            load(
                company=company,
                conversations=scale * company.conversations,
                actor="command",
                on_progress=progress.update,
            )
            for company in COMPANIES
        ]


def _as_json(result: LoadResult) -> dict[str, Any]:
    return {
        "slug": result.company.slug,
        "name": result.company.name,
        "timezone": result.company.timezone,
        "uci": result.company.uci.name,
        "uci_value": result.company.uci_value(0),
        "created": result.chatbot_created,
        "conversations": {outcome.value: result.outcomes[outcome] for outcome in DocumentOutcome},
        "messages": result.messages,
        "files": result.files,
    }


def _scale(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 1 <= int(text) <= 100_000):
        raise argparse.ArgumentTypeError("a whole number from 1 to 100000")
    return int(text)
