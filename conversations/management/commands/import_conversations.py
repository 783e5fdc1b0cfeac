"""Import conversation documents from a file."""

import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import CommandError, CommandParser
from tqdm import tqdm

from chatbots.management.base import find_chatbot
from chatbots.models import Chatbot
from common.commands import TeachingCommand
from conversations.importing import (
    Refusal,
    SourceUnreadable,
    Summary,
    import_lines,
    long_run,
    open_source,
    read_lines,
)
from conversations.intake import IntakeFailed

SOME_REFUSED = 3
INTERRUPTED = 130
REFUSALS_SHOWN = 20

EXAMPLES = """\
Each line is one conversation document, as in POST /api/v1/chatbots/<slug>/conversations. Gzip is recognised by
its content. An import can be broken off and run again from the start: what is stored is found "unchanged".

Lines that cannot be stored are refused one by one and told by number, JSON Pointer and code; never by content.

examples:
  manage.py import_conversations acme conversations.jsonl.gz
  manage.py import_conversations acme conversations.jsonl --refused refused.jsonl
  zstdcat conversations.jsonl.zst | manage.py import_conversations acme - --json

exit codes:
  0    every line is stored
  1    the chatbot or the file is not there, the file breaks off, or the database refused
  2    the command line is wrong
  3    some lines were refused, all others are stored
  130  interrupted; what is counted in the summary is stored
"""


class Command(TeachingCommand):
    help = "Store the conversations of a JSON Lines file: new ones are created, known ones updated."
    examples = EXAMPLES

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("slug", help="the chatbot that the conversations belong to")
        parser.add_argument("file", help="a .jsonl or .jsonl.gz file, or - for standard input")
        parser.add_argument(
            "--json", action="store_true", dest="as_json", help="print the summary as one JSON document"
        )
        parser.add_argument(
            "--refused", metavar="FILE", help="write one JSON line for each refused line: line, pointers, codes"
        )

    def handle(self, *, slug: str, file: str, as_json: bool, refused: str | None, **_options: Any) -> None:
        chatbot = find_chatbot(slug)
        summary = Summary()
        began = time.monotonic()
        failure, exit_code = "", 0
        try:
            with long_run(), _refusals(refused, summary) as on_refused:
                self._import(chatbot, file, summary, on_refused)
        except SourceUnreadable as error:
            failure = str(error)
        except IntakeFailed as error:
            failure = f"The database refused a batch: {error}."
        except KeyboardInterrupt:
            exit_code = INTERRUPTED
        if failure and not summary.documents:
            raise CommandError(f"{failure} Nothing was stored.")
        self._tell(summary, time.monotonic() - began, failure, as_json=as_json)
        if failure:
            raise CommandError(f"{failure} What the summary counts is stored; run it again when mended.")
        if exit_code or summary.refused:
            sys.exit(exit_code or SOME_REFUSED)

    def _import(self, chatbot: Chatbot, file: str, summary: Summary, on_refused: Callable[[Refusal], None]) -> None:
        with open_source(file) as source, tqdm(unit=" documents", file=sys.stderr, disable=None) as progress:
            lines = read_lines(source, limit=settings.MAX_BODY_BYTES)
            batches = import_lines(chatbot=chatbot, lines=lines, summary=summary, on_refused=on_refused)
            with closing(batches):  # counts what is under way when Ctrl-C comes
                for done in batches:
                    progress.update(done)

    def _tell(self, summary: Summary, seconds: float, failure: str, *, as_json: bool) -> None:
        rate = round(summary.messages / seconds) if seconds else 0
        if as_json:
            told = {
                "documents": summary.documents,
                "created": summary.created,
                "updated": summary.updated,
                "unchanged": summary.unchanged,
                "refused": summary.refused,
                "refused_by_code": dict(sorted(summary.refused_by_code.items())),
                "messages": summary.messages,
                "seconds": round(seconds, 3),
                "messages_per_second": rate,
                "error": failure or None,
            }
            self.stdout.write(json.dumps(told))
            return
        self.stdout.write(
            f"{summary.documents:,} documents: {summary.created:,} created, {summary.updated:,} updated, "
            f"{summary.unchanged:,} unchanged, {summary.refused:,} refused.\n"
            f"{summary.messages:,} messages stored in {seconds:.1f} s ({rate:,} a second)."
        )
        for code, count in summary.refused_by_code.most_common():
            self.stdout.write(f"  refused with {code}: {count:,}")


@contextmanager
def _refusals(path: str | None, summary: Summary) -> Iterator[Callable[[Refusal], None]]:
    """Give what writes a refusal down: to the file, or the first few to stderr."""
    if path is None:
        yield lambda refusal: _show(refusal) if summary.refused <= REFUSALS_SHOWN else None
        return
    try:
        file = Path(path).open("w", encoding="utf-8")  # noqa: SIM115
    except OSError as error:
        raise CommandError(f"The file for refused lines cannot be written: {error.strerror}.") from None
    with file:
        yield lambda refusal: print(json.dumps(_told(refusal)), file=file)


def _told(refusal: Refusal) -> dict[str, Any]:
    errors = [{"pointer": error.pointer, "code": error.code} for error in refusal.errors]
    return {"line": refusal.line, "errors": errors}


def _show(refusal: Refusal) -> None:
    errors = ", ".join(f"{error.pointer or 'document'} {error.code}" for error in refusal.errors)
    tqdm.write(f"line {refusal.line} refused: {errors}", file=sys.stderr)
