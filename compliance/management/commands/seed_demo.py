import argparse
import json
import sys
import time
from typing import Any

from django.conf import settings
from django.core.management.base import CommandError, CommandParser
from tqdm import tqdm

from chatbots.buckets import hosted_storage
from common.commands import TeachingCommand
from common.storage import StorageError
from conversations.demo_data import COMPANIES
from conversations.demo_seeding import Seeded, seed
from conversations.intake import IntakeFailed, Result


class Command(TeachingCommand):
    help = (
        f"Fill a development copy with invented conversations: {len(COMPANIES)} companies in different time zones,\n"
        "every channel and kind of message, several languages and scripts, files, scores, people without an\n"
        "identity, and windows that two people shared. Safe to run again: what is there stays as it is."
    )
    examples = """\
examples:
  manage.py seed_demo
  manage.py seed_demo --scale 100 --json
  manage.py request_export lantern-books member_id M-10000 --wait    (then, with a worker or process_requests)

exit codes: 0 done, 1 refused: this is no development copy, or the database or the storage does not answer
"""

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--scale",
            type=_scale,
            default=1,
            metavar="N",
            help=f"How many times {sum(company.conversations for company in COMPANIES)} conversations (1).",
        )
        parser.add_argument("--json", action="store_true", help="Print what was made as one JSON document.")

    def handle(self, *args: Any, **options: Any) -> None:
        if not settings.DEVELOPMENT:
            raise CommandError(
                "This is no development copy: DATABASE_URL or SECRET_KEY is set. Sample data is not put beside "
                "people's conversations; try `make run` in a fresh clone instead."
            )
        began = time.monotonic()
        try:
            made = _seed_all(scale=options["scale"])
        except IntakeFailed as error:
            raise CommandError(f"The database refused: {error}. Run it again when mended.") from None
        except StorageError as error:
            raise CommandError(f"{error.code}: {error.detail}") from None
        seconds = time.monotonic() - began
        if options["json"]:
            told = {"chatbots": [_told(one) for one in made], "seconds": round(seconds, 3)}
            self.stdout.write(json.dumps(told, ensure_ascii=False))
            return
        for one in made:
            self._tell(one)
        first = COMPANIES[0]
        self.stdout.write(
            f"Done in {seconds:.1f} s. Export a chatter: "
            f"manage.py request_export {first.slug} {first.uci.name} {first.uci_value(0)} --wait"
        )

    def _tell(self, one: Seeded) -> None:
        company = one.company
        outcomes = ", ".join(f"{one.outcomes[result]:,} {result}" for result in Result if one.outcomes[result])
        self.stdout.write(
            f"{company.slug} ({company.timezone}, UCI {company.uci.name} such as {company.uci_value(0)}): "
            f"{one.outcomes.total():,} conversations, {outcomes}; "
            f"{one.messages:,} messages and {one.files:,} files new."
        )
        if one.outcomes[Result.REFUSED]:
            self.stdout.write(
                "  What is refused was deleted, or the chatbot's variables are not those of the sample."
            )


def _seed_all(*, scale: int) -> list[Seeded]:
    hosted_storage().create_bucket_if_missing()
    total = scale * sum(company.conversations for company in COMPANIES)
    with tqdm(total=total, unit=" conversations", file=sys.stderr, disable=None) as progress:
        return [
            seed(
                company=company,
                conversations=scale * company.conversations,
                actor="command",
                on_progress=progress.update,
            )
            for company in COMPANIES
        ]


def _told(one: Seeded) -> dict[str, Any]:
    return {
        "slug": one.company.slug,
        "name": one.company.name,
        "timezone": one.company.timezone,
        "uci": one.company.uci.name,
        "uci_value": one.company.uci_value(0),
        "created": one.chatbot_created,
        "conversations": {result.value: one.outcomes[result] for result in Result},
        "messages": one.messages,
        "files": one.files,
    }


def _scale(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 1 <= int(text) <= 100_000):
        raise argparse.ArgumentTypeError("a whole number from 1 to 100000")
    return int(text)
