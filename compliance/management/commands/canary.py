import sys
import time
from collections.abc import Iterator
from typing import Any

from django.conf import settings
from django.core.management.base import CommandError, CommandParser

from common.commands import ReportingCommand
from common.db import sessions_find_by_index
from compliance.canary import turns
from compliance.models import Canary, CanaryTurn
from compliance.models.canary import Left

State = CanaryTurn.State

EXIT_CODES = {State.CLEAN: 0, State.FOUND: 3, State.UNCLEAR: 4, State.RUNNING: 6}


class Command(ReportingCommand):
    help = (
        "Take a turn of the canary now: plant a made-up chatter in the canary's own chatbot over HTTP, have it "
        "exported and erased by the public API, and look for its words: API, bucket, database, log files."
    )
    examples = """\
examples:
  manage.py canary
  manage.py canary --json
  manage.py canary --last          the last turn's result, without taking one

Needs the canary (create_canary), CANARY_URL, a web server and workers. If a turn is under way it follows that one. It
touches no other chatbot. What it finds is named by place, never by content: docs/operators/runbooks/canary.md.

exit codes:
  0  clean: every place was looked at, and nothing was left
  1  there is no canary, no CANARY_URL, or (--last) no turn
  3  something was left
  4  unclear: it could not do something, or not look everywhere; the output says what and why
  6  still running after --timeout; workers that have CANARY_URL go on with it, as does this command when run again
"""

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--last", action="store_true", help="Show the last turn that has ended.")
        parser.add_argument("--timeout", type=float, default=900, metavar="SECONDS", help="How long to follow (900).")

    @sessions_find_by_index()
    def handle(self, *args: Any, **options: Any) -> None:
        if not Canary.objects.exists():
            raise CommandError("There is no canary. Create it first: manage.py create_canary")
        turn = self._last() if options["last"] else self._take(options["timeout"])
        self.report(_document(turn), *_lines(turn))
        sys.exit(EXIT_CODES[State(turn.state)])

    def _last(self) -> CanaryTurn:
        turn = CanaryTurn.objects.exclude(state=State.RUNNING).order_by("-began_at").first()
        if turn is None:
            raise CommandError("No turn has ended yet.")
        return turn

    def _take(self, timeout: float) -> CanaryTurn:
        if not settings.CANARY_URL:
            raise CommandError("Set CANARY_URL to the address at which clients reach the service.")
        end = time.monotonic() + timeout
        turn, said = turns.begin(), ""
        if turn is None:
            raise CommandError("A turn has just begun or ended in another process. Run it again.")
        while turn.state == State.RUNNING and time.monotonic() < end:
            if turn.step != said:
                said = turn.step
                self.stderr.write(f"{CanaryTurn.Step(said).label} ...")
            turns.resume(seconds=end - time.monotonic())
            turn.refresh_from_db()
            if turn.state == State.RUNNING:
                time.sleep(1)
        return turn


def _lines(turn: CanaryTurn) -> Iterator[str]:
    for one in turn.findings:
        yield f"{one['place']}: {Left(one['code']).label}: {one['where']}"
    if turn.trouble:
        where = f": {turn.trouble_at}" if turn.trouble_at else ""
        yield f"{turn.trouble}: {turn.get_trouble_display()}{where}"
    if turn.state == State.RUNNING:
        yield "Still running. Are web server and workers up? Workers with CANARY_URL continue it."
    else:
        yield f"{turn.state}: {turn.get_state_display()}."


def _document(turn: CanaryTurn) -> dict[str, Any]:
    shown = {name: getattr(turn, name) for name in ("state", "step", "began_at", "ended_at", "findings")}
    troubles = {"trouble": turn.trouble or None, "trouble_at": turn.trouble_at or None}
    return {"turn": turn.pk, **shown, "erased": turn.erased_at is not None, **troubles}
