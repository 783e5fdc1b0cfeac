import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import UUID

from django.core.management.base import CommandError, CommandParser
from tqdm import tqdm

from common.commands import ReportingCommand
from common.db import sessions_find_by_index
from common.storage import StorageError
from common.texts import counted
from compliance import worker
from compliance.models import LedgerLine, Service
from compliance.replay.operation import Progress, ReplayRefused, Show, leave, replay
from compliance.replay.report import Report

Outcome = LedgerLine.Outcome
Plan = LedgerLine.Plan

# How many numbers of a request's conversations are shown; --json has all.
_NUMBERS = 20


class Command(ReportingCommand):
    help = (
        "After the database was restored from a backup: repeat the erasures of the ledger, file again what "
        "was accepted since, and open the service. It cannot be undone: try --dry-run first."
    )
    examples = """\
examples:
  manage.py replay_erasures --dry-run
  manage.py replay_erasures --dry-run --json > planned.json
  manage.py replay_erasures
  manage.py replay_erasures --leave 01932f4e-6b1c-7c3e-a2a5-0d7c4e4f2b11

The ledger in the hosted bucket has what was promised and erased since the backup was taken. Each authentic object of
this service that the database does not know is read: what was erased is erased again (rows, files, exports, daily
extracts), messages are redacted again, and keys revoked again. A deletion that was accepted is filed again under its
id, on hold where the chatbot has four eyes or its guard applies. What clients send again is refused, or stored as
redacted, as before the restore. What is lost is named, with what to tell the client. Objects that were forged, cut
off or moved are named, and not used.

A chatter who came back since the restore is left alone. What needs a client's bucket is left to the workers. If it is
killed, run it again: it goes on. Where nothing was restored it does nothing. --restored says that the database was,
or one machine of Citus, and reads all objects since BACKUP_HORIZON_DAYS. Afterwards look at what the bucket has
without a row: manage.py reconcile_storage.

A request that cannot be carried out again is marked "Decide". Its chatbot stays closed, and no other. Run the command
again once the cause is mended, or leave the request as it is with --leave.

exit codes: 0 all is done (or would be), 1 the storage did not answer, or another replay is under way, 3 something
could not be resolved: an object was refused, a request has failed or has to be decided, or the service does not know
of a restore, 130 interrupted
"""

    def add_arguments(self, parser: CommandParser) -> None:
        how = parser.add_mutually_exclusive_group()
        how.add_argument(
            "--dry-run",
            action="store_true",
            help="Print each request and its outcome, and write nothing. In an open service, calls about these "
            "conversations wait until the plan is complete.",
        )
        parser.add_argument(
            "--restored", action="store_true", help="The database was restored, though the service is open: close it."
        )
        parser.add_argument(
            "--without-ledger",
            action="store_true",
            help="The bucket was lost as well: open the service without repeating any erasure.",
        )
        how.add_argument(
            "--leave",
            nargs="+",
            type=UUID,
            metavar="REQUEST",
            help="Decide that nothing more is done for these requests, and open their chatbots.",
        )

    @sessions_find_by_index()
    def handle(self, *args: Any, **options: Any) -> None:
        if options["leave"]:
            if options["restored"]:
                raise CommandError("--leave decides about requests; it does not go with --restored.")
            self._leave(options["leave"])
            return
        reports: list[Report] = []

        def show(report: Report) -> None:
            reports.append(report)
            if self.as_json:
                self._write_json(report)
            else:
                self._write_text(report)

        if not self._replay(show, options):
            raise CommandError("Meanwhile more was found to be lost. Run it again.")
        if not all(report.is_resolved for report in reports):
            sys.exit(3)

    def _replay(self, show: Show, options: dict[str, Any]) -> bool:
        try:
            with self._progress() as progress:
                return replay(
                    work=worker.work,
                    show=show,
                    progress=progress,
                    is_dry_run=options["dry_run"],
                    is_restored=options["restored"],
                    is_without_ledger=options["without_ledger"],
                )
        except ReplayRefused as error:
            raise CommandError(str(error), returncode=3 if error.needs_decision else 1) from None
        except StorageError as error:
            text = f"{error.code}: {error.detail} The service stays as it is. Run it again when that is mended."
            raise CommandError(text) from None
        except KeyboardInterrupt:
            raise CommandError(_INTERRUPTED, returncode=130) from None

    def _leave(self, request_ids: list[UUID]) -> None:
        try:
            leave(request_ids)
        except ReplayRefused as error:
            raise CommandError(str(error)) from None
        left = [str(each) for each in request_ids]
        self.report({"left": left}, f"Left as it is: {', '.join(left)}")

    @contextmanager
    def _progress(self) -> Iterator[Progress]:
        shown = ""
        with tqdm(unit="", file=self.stderr, disable=None) as bar:

            def show(stage: str, number: int) -> None:
                nonlocal shown
                if stage != shown:
                    shown = stage
                    bar.reset()
                    bar.set_description(stage)
                bar.update(number)

            yield show

    def _write_json(self, report: Report) -> None:
        """Write the document piece by piece: there can be very many requests."""
        head = json.dumps(report.summary())
        self.stdout.write(head[:-1] + ', "requests": [', ending="")
        for place, one in enumerate(report.requests()):
            self.stdout.write((", " if place else "") + json.dumps(one), ending="")
        self.stdout.write("]}")

    def _write_text(self, report: Report) -> None:
        for key, fault in report.refused:
            self.stdout.write(f"refused: {fault} {key}")
        for life in report.lives:
            first, last = (life[at][:16].replace("T", " ") for at in ("first_at", "last_at"))
            objects = counted(life["objects"], "object")
            self.stdout.write(f"read: {objects} of life {life['incarnation']}, {first} to {last} UTC")
        if report.are_lives_mixed:
            self.stdout.write(_MIXED)
        for chatbot, prefix in report.revoked:
            self.stdout.write(f"key {'to be revoked' if report.is_dry_run else 'revoked'}: {prefix} of {chatbot}")
        for one in report.requests():
            self.stdout.write(_line(one))
            if one["advice"]:
                self.stdout.write(f"    {one['advice']}")
        for (plan, outcome), number in sorted(report.counts.items()):
            after = f": {_outcome(plan, outcome).lower()}" if outcome and not report.is_dry_run else ""
            self.stdout.write(f"{number:,} x {Plan(plan).label.lower() if plan else 'not planned'}{after}")
        self.stdout.write(_next_step(report))


_INTERRUPTED = (
    "Interrupted. Finished steps stay done: run it again to continue. manage.py health shows whether the service is "
    "still closed."
)


_MIXED = (
    "WARNING: two lives of the database have written by turns. One was a copy's (staging) that works under this "
    "service's name, and what it has erased is among this: look at each request."
)


def _line(one: dict[str, Any]) -> str:
    chatbot = one["chatbot"] or "a chatbot that is not here"
    numbers = ", ".join(map(str, one["numbers"][:_NUMBERS])) + (", ..." if len(one["numbers"]) > _NUMBERS else "")
    about = f", {counted(one['conversations'], 'conversation')}" + (f" ({numbers})" if numbers else "")
    if one["kind"] == "export":
        about = ""  # its conversations are not looked up
    done = f" -> {_outcome(one['plan'], one['outcome'])}" if one["outcome"] else ""
    why = f" ({one['error']})" if one["error"] else " (a client's bucket)" if "waits_for" in one else ""
    return f"{one['kind'] or 'request'} {one['request_id']} of {chatbot}: {Plan(one['plan']).label}{about}{done}{why}"


def _outcome(plan: str, outcome: str) -> str:
    if (plan, outcome) == (Plan.REDACT, Outcome.ERASED):
        return "Redacted again"
    return Outcome(outcome).label


def _next_step(report: Report) -> str:
    nothing = "" if report.unknown else " The ledger has no object that this database does not know."
    if nothing and report.state != Service.State.OPEN:
        nothing += " If anything was asked for since the backup, S3_BUCKET is not the bucket that has its ledger."
    if report.is_dry_run:
        text = f"Nothing was written. Conversations that would be erased again: {report.conversations:,}.{nothing}"
    elif not report.opened:
        text = f"There is nothing to be done.{nothing}"
    else:
        text = (
            f"The service is open. Conversations to be erased again: {report.conversations:,}.{nothing} Now compare "
            "the bucket with the database: manage.py reconcile_storage"
        )
    return " ".join([text, *_open_problems(report)])


def _open_problems(report: Report) -> Iterator[str]:
    """Yield each reason for exit code 3, and what to do about it."""
    if report.refused:
        yield (
            f"LOOK: {counted(len(report.refused), 'object')} of the ledger not believed, and not used: "
            'docs/operators/runbooks/restores.md, "DcaLedgerForeign", says what each reason means.'
        )
    failed = sum(number for (_, outcome), number in report.counts.items() if outcome == Outcome.FAILED)
    if number := failed + report.failing:
        yield (
            f"LOOK: {counted(number, 'request')} {'has' if number == 1 else 'have'} met an error, which follows its "
            "line: workers try again, and what fails for good waits for manage.py retry_request."
        )
    undecided = sum(number for (_, outcome), number in report.counts.items() if outcome == Outcome.UNDECIDED)
    if undecided:
        yield (
            f'LOOK: {counted(undecided, "request")} to be decided, marked "Decide". Until then their chatbots are '
            "closed: --leave REQUEST leaves one as it is, and the command tries them again."
        )
    if any(plan == Plan.LOST_REDACTION for plan, _ in report.counts):
        yield "Tell clients of each lost redaction."
