"""Import conversation documents from a file."""

import json
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import CommandError, CommandParser
from tqdm import tqdm

from chatbots.management.base import find_open_chatbot
from chatbots.models import Chatbot
from common.commands import ReportingCommand
from common.proc import rare_garbage_collection
from common.texts import counted
from conversations.importer import (
    ImportSummary,
    OnRefused,
    RefusedLine,
    SourceUnreadable,
    import_lines,
    open_source,
    read_lines,
)
from conversations.intake import DocumentOutcome, IntakeFailed

SOME_REFUSED = 3
INTERRUPTED = 130
REFUSED_SHOWN = 20

EXAMPLES = """\
Each line is one conversation document, as in POST /api/v1/chatbots/<slug>/conversations. Gzip is recognised by
its content. An import can be interrupted and run again from the start: what is stored is then "unchanged".

Lines that cannot be stored are refused one by one and reported by number, JSON Pointer and code, never by content.

examples:
  manage.py import_conversations acme conversations.jsonl.gz
  manage.py import_conversations acme conversations.jsonl --refused refused.jsonl
  zstdcat conversations.jsonl.zst | manage.py import_conversations acme - --json

exit codes:
  0    every line is stored
  1    no such chatbot or file, the file breaks off, or the database refused
  2    the command line is wrong
  3    some lines were refused, all others are stored
  130  interrupted; what is counted in the summary is stored
"""


class Command(ReportingCommand):
    help = "Store the conversations of a JSON Lines file: new ones are created, known ones updated."
    examples = EXAMPLES

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("slug", help="the chatbot that the conversations belong to")
        parser.add_argument("file", help="a .jsonl or .jsonl.gz file, or - for standard input")
        parser.add_argument(
            "--refused", metavar="FILE", help="write one JSON line for each refused line: line, pointers, codes"
        )

    def handle(self, *, slug: str, file: str, refused: str | None, **_options: Any) -> None:
        chatbot = find_open_chatbot(slug)
        summary = ImportSummary()
        began = time.monotonic()
        failure, exit_code = "", 0
        try:
            with rare_garbage_collection(), _refused_lines(refused, summary) as on_refused:
                self._import(chatbot, file, summary, on_refused)
        except SourceUnreadable as error:
            failure = str(error)
        except IntakeFailed as error:
            failure = f"The database refused a batch: {error}."
        except KeyboardInterrupt:
            exit_code = INTERRUPTED
        if failure and not summary.outcomes:
            raise CommandError(f"{failure} Nothing was stored.")
        self._print(summary, time.monotonic() - began, failure)
        if failure:
            raise CommandError(f"{failure} What the summary counts is stored; run it again when fixed.")
        if exit_code or summary.outcomes[DocumentOutcome.REFUSED]:
            sys.exit(exit_code or SOME_REFUSED)

    def _import(self, chatbot: Chatbot, file: str, summary: ImportSummary, on_refused: OnRefused) -> None:
        with open_source(file) as source, tqdm(unit=" documents", file=sys.stderr, disable=None) as progress:
            lines = read_lines(source, limit=settings.MAX_BODY_BYTES)
            batches = import_lines(chatbot=chatbot, lines=lines, summary=summary, on_refused=on_refused)
            with closing(batches):  # counts the running batches on Ctrl-C
                for done in batches:
                    progress.update(done)

    def _print(self, summary: ImportSummary, seconds: float, failure: str) -> None:
        rate = round(summary.messages / seconds) if seconds else 0
        documents, outcomes = summary.outcomes.total(), {one.value: summary.outcomes[one] for one in DocumentOutcome}
        document = {
            "documents": documents,
            **outcomes,
            "refused_by_code": dict(sorted(summary.refused_by_code.items())),
            "messages": summary.messages,
            "seconds": round(seconds, 3),
            "messages_per_second": rate,
            "error": failure or None,
        }
        self.report(
            document,
            f"{counted(documents, 'document')}: "
            f"{', '.join(f'{count:,} {outcome}' for outcome, count in outcomes.items())}.",
            f"{counted(summary.messages, 'message')} stored in {seconds:.1f} s ({rate:,} a second).",
            *(f"  refused with {code}: {count:,}" for code, count in summary.refused_by_code.most_common()),
        )


@contextmanager
def _refused_lines(path: str | None, summary: ImportSummary) -> Iterator[OnRefused]:
    """Yield a function that writes a refused line to the file, or the first few to stderr."""
    if path is None:
        yield lambda line: _show(line) if summary.outcomes[DocumentOutcome.REFUSED] <= REFUSED_SHOWN else None
        return
    try:
        file = Path(path).open("w", encoding="utf-8")  # noqa: SIM115
    except OSError as error:
        raise CommandError(f"The file for refused lines cannot be written: {error.strerror}.") from None
    with file:
        yield lambda line: print(json.dumps(_as_json(line)), file=file)


def _as_json(line: RefusedLine) -> dict[str, Any]:
    errors = [{"pointer": error.pointer, "code": error.code} for error in line.errors]
    return {"line": line.number, "errors": errors}


def _show(line: RefusedLine) -> None:
    errors = ", ".join(f"{error.pointer or 'document'} {error.code}" for error in line.errors)
    tqdm.write(f"line {line.number} refused: {errors}", file=sys.stderr)
