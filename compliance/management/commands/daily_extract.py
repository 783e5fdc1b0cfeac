import sys
from argparse import ArgumentTypeError
from collections.abc import Iterable
from datetime import date
from typing import Any

from django.core.management.base import CommandError, CommandParser
from django.utils import timezone
from tqdm import tqdm

from chatbots.management.base import find_open_chatbot
from chatbots.models import Bucket, Chatbot
from common.commands import ReportingCommand
from common.texts import counted
from compliance.erasure import extracts
from conversations.extracts import days
from conversations.models import DailyExtract

State = DailyExtract.State

FAILED = 3

# No platform is older. A slip of the pen must not plan a thousand years.
FIRST_DAY = date(2000, 1, 1)


class Command(ReportingCommand):
    help = "Make the daily extracts of one chatbot, or of all that have them switched on, here and now."
    examples = """\
Makes what is missing, stale, failed or expired, and leaves what is done. Safe to run beside a cluster, which makes
yesterday's by itself. A day is over EXTRACT_DELAY_MINUTES after midnight in the chatbot's time zone.

examples:
  manage.py daily_extract acme                                    yesterday's
  manage.py daily_extract acme --date 2026-11-23
  manage.py daily_extract --all --from 2026-11-01 --to 2026-11-23
  manage.py daily_extract acme --date 2026-11-23 --again          also if it is done; hosted files only

exit codes:
  0    all of these days are done
  1    the chatbot is not there, or has no bucket
  2    the command line is wrong
  3    some could not be made, or were changed meanwhile; the output says which
"""

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("slug", nargs="?", help="The chatbot.")
        parser.add_argument("--all", action="store_true", help="All chatbots that have extracts switched on.")
        parser.add_argument("--date", type=_day, metavar="DAY", help="One day, such as 2026-11-23; from 2000 on.")
        parser.add_argument("--from", type=_day, dest="first", metavar="DAY", help="The first of several days.")
        parser.add_argument("--to", type=_day, dest="last", metavar="DAY", help="The last (yesterday).")
        parser.add_argument("--again", action="store_true", help="Make hosted files that are done once more.")

    def handle(self, *args: Any, **options: Any) -> None:
        if bool(options["slug"]) == options["all"]:
            raise CommandError("Give a chatbot, or --all.", returncode=2)
        if options["date"] and (options["first"] or options["last"]):
            raise CommandError("Either --date, or --from and --to.", returncode=2)
        if options["last"] and not options["first"]:
            raise CommandError("--to needs --from.", returncode=2)
        waiting = [
            extract
            for chatbot in _chatbots(options["slug"])
            for extract in extracts.prepare(chatbot, *_requested_days(chatbot, options), again=options["again"])
        ]
        for extract in tqdm(waiting, unit=" days", file=sys.stderr, disable=None):
            extracts.build_now(extract)
        made = DailyExtract.objects.filter(pk__in=[extract.pk for extract in waiting]).select_related("chatbot")
        rows = list(made.order_by("chatbot__slug", "day"))
        done = sum(row.state == State.DONE for row in rows)
        self.report(
            {"extracts": [_as_json(row) for row in rows]},
            *(f"{row.chatbot.slug} {row.day}: {row.state} {_outcome(row)}".rstrip() for row in rows),
            f"{done:,} of {counted(len(rows), 'day')} done.",
        )
        if done < len(rows):
            sys.exit(FAILED)


def _as_json(row: DailyExtract) -> dict[str, Any]:
    shown = {name: getattr(row, name) for name in ("day", "state", "rows", "bytes", "sha256")}
    return {"chatbot": row.chatbot.slug, **shown, "error": row.error_code or None}


def _outcome(row: DailyExtract) -> str:
    if row.state != State.DONE:
        return row.error_detail
    return f"{counted(row.rows or 0, 'row')}, {counted(row.bytes or 0, 'byte')}"


def _day(text: str) -> date:
    try:
        day = date.fromisoformat(text)
    except ValueError:
        raise ArgumentTypeError(f"{text!r} is no day such as 2026-11-23") from None
    if day < FIRST_DAY:
        raise ArgumentTypeError(f"{text} lies before {FIRST_DAY}")
    return day


def _chatbots(slug: str | None) -> Iterable[Chatbot]:
    if slug is None:
        return Chatbot.objects.filter(extracts_enabled=True, bucket__isnull=False, closed_at=None).order_by("slug")
    chatbot = find_open_chatbot(slug)
    if not Bucket.objects.filter(chatbot=chatbot).exists():
        raise CommandError("The chatbot has no bucket. Set one up first.")
    return [chatbot]


def _requested_days(chatbot: Chatbot, options: dict[str, Any]) -> tuple[date, date]:
    newest = days.last_day_over(chatbot.timezone, timezone.now())
    first = options["date"] or options["first"] or newest
    last = options["date"] or options["last"] or newest
    if first > last:
        raise CommandError("The first day lies after the last.", returncode=2)
    if last > newest:
        raise CommandError(f"The last day that is over, for {chatbot.slug}, is {newest}.", returncode=2)
    return first, last
