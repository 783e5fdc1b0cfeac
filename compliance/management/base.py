"""Base classes of the commands that file a request, or decide on one, and of those about a legal hold."""

import argparse
import sys
import time
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, ClassVar
from uuid import UUID
from zoneinfo import ZoneInfo

from django.conf import settings
from django.core.management.base import CommandError, CommandParser
from django.urls import reverse

from chatbots.management.base import find_chatbot, find_open_chatbot
from common.commands import ACTOR, ReportingCommand
from common.texts import counted
from compliance.api.schemas import RequestObject
from compliance.cluster import heartbeats
from compliance.errors import Refused
from compliance.models import ComplianceRequest, LegalHold
from compliance.requests import decisions, similar
from compliance.requests.reasons import REASONS, Decision
from compliance.requests.selectors import ByConversations, ByUci, Selector
from compliance.requests.submit import submit

Status = ComplianceRequest.Status

# The outcomes of a command that follows a request, by the request's final state.
EXIT_CODES = {
    Status.COMPLETED: 0,
    Status.FAILED: 3,
    Status.ON_HOLD: 4,
    Status.REJECTED: 5,
    Status.CANCELLED: 5,
}
STILL_WAITING = 6

_OPERATIONS: Mapping[Decision, Callable[..., ComplianceRequest]] = {
    Decision.APPROVE: decisions.approve,
    Decision.REJECT: decisions.reject,
    Decision.CANCEL: decisions.cancel,
    Decision.RETRY: decisions.retry,
    Decision.EXTEND: decisions.extend,
    Decision.LIMIT: decisions.erase_unheld,
}

_NO_WORKER = (
    "No worker is running, so the request waits. Start a cluster (manage.py qcluster), or carry out what waits here "
    "and now, in another terminal: manage.py process_requests."
)


class RequestCommand(ReportingCommand):
    """A command whose result is a request."""

    refusals: ClassVar = {Refused: 2}

    def show(self, request: ComplianceRequest) -> None:
        """Print a request: the API's request object, or a few lines."""
        path = reverse("compliance-api:request", args=[request.chatbot.slug, request.pk])
        why = request.hold_reason or request.result
        lines = [f"{request.kind} {request.pk}: {request.status}" + (f" ({why})" if why else "")]
        if request.status == Status.COMPLETED:
            lines.append(_summary(request))
        if request.status == Status.FAILED:
            lines.append(f"{request.error_code}: {request.error_detail}")
        shown = RequestObject.of(request, status_url=path, shows_key=True)
        self.report(shown.as_json(), *lines)


class FilingCommand(RequestCommand):
    """File one request about one chatter, or about certain conversations, and wait for it when asked to.

    `choices` are the switches of its kind, as `submit` takes them, each with its help.
    """

    kind: ClassVar[ComplianceRequest.Kind]
    choices: ClassVar[Mapping[str, str]]

    def add_arguments(self, parser: CommandParser) -> None:
        add_selector_arguments(parser)
        parser.add_argument(
            "--reference", default="", help="Your own ticket number; must contain neither value nor id."
        )
        parser.add_argument(
            "--callback-url",
            default="",
            metavar="URL",
            help="Where callbacks go, in place of the chatbot's address; must contain neither value nor id.",
        )
        parser.add_argument(
            "--requested-at",
            default="",
            metavar="DATE",
            help="When the person asked, if that was earlier: a date in the chatbot's time zone, or an instant with "
            "an offset. The deadline counts from it.",
        )
        parser.add_argument("--wait", action="store_true", help="Follow the request until it ends or is held.")
        parser.add_argument("--timeout", type=float, default=600, metavar="SECONDS", help="How long to wait (600).")
        for name, meaning in self.choices.items():
            parser.add_argument(f"--{name.replace('_', '-')}", action="store_true", help=meaning)

    def handle(self, *args: Any, **options: Any) -> None:
        selector = read_selector(options)
        find = find_open_chatbot if self.kind == ComplianceRequest.Kind.EXPORT else find_chatbot
        request = submit(
            chatbot=find(options["slug"]),
            kind=self.kind,
            selector=selector,
            origin=ComplianceRequest.Origin.COMMAND,
            actor=ACTOR,
            reference=options["reference"],
            callback_url=options["callback_url"],
            requested_at=options["requested_at"],
            csv_dialect=options.get("csv_dialect") or "",
            formats=(options.get("formats") or "").split(),
            archive=options.get("archive", ""),
            replay=None,
            **{name: options[name] for name in self.choices},
        )
        if request.existing:
            self.stderr.write("Nothing was filed: an equal export waits, and answers for this one. See --again.")
        self._point_out_similar(request, selector)
        if options["wait"]:
            request = _follow(request, timeout=options["timeout"], log=self.stderr.write)
        self.show(request)
        if options["wait"]:
            sys.exit(EXIT_CODES.get(Status(request.status), STILL_WAITING))

    def _point_out_similar(self, request: ComplianceRequest, selector: Selector) -> None:
        """Print how other chatters' values differ that look like this one, and not the values."""
        if isinstance(selector, ByUci) and request.variable_id:
            chatbot_id, variable_id = request.chatbot_id, request.variable_id
            [alike] = similar.find(chatbot_id=chatbot_id, variable_id=variable_id, values=[selector.value])
            for one in alike:
                held = counted(one.conversations, "conversation")
                self.stderr.write(f"Another chatter's value looks similar: {one.key}, {held}, differs {one.differs}.")


class DecidingCommand(RequestCommand):
    """Decide on one request."""

    decision: ClassVar[Decision]
    # argparse's nargs: "?" if the request may be omitted.
    nargs: ClassVar[str | None] = None

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("request_id", nargs=self.nargs, type=parse_request_id, help="The request's id.")
        parser.add_argument(
            "--reason",
            choices=REASONS[self.decision].values,
            required=self.decision is Decision.REJECT,
            metavar="REASON",
            help=f"The reason for the change log: {', '.join(REASONS[self.decision].values)}.",
        )
        parser.add_argument(
            "--note",
            default="",
            metavar="TEXT",
            help='A note for staff, which is erased with the person\'s data. "-" reads it from standard input, away '
            "from the shell's history.",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        decide = _OPERATIONS[self.decision]
        note = sys.stdin.read() if options["note"] == "-" else options["note"]
        self.show(decide(request_id=options["request_id"], actor=ACTOR, reason=options["reason"], note=note))


class HoldCommand(ReportingCommand):
    """A command about one legal hold."""

    refusals: ClassVar = {Refused: 2}

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("hold_id", type=parse_hold_id, help="The hold's id: legal_holds lists them.")


def add_selector_arguments(parser: CommandParser) -> None:
    parser.add_argument("slug", help="The chatbot.")
    parser.add_argument("key", nargs="?", help="The Unique Chatter Identifier's name, such as member_id.")
    parser.add_argument(
        "value",
        nargs="?",
        help='Its value. "-" reads it from standard input, away from the shell\'s history.',
    )
    parser.add_argument(
        "--conversation",
        action="append",
        default=[],
        metavar="ID",
        help="Instead of key and value: a conversation, by the platform's id. Can be given up to 100 times; "
        '"-" reads ids from standard input, one a line.',
    )


def read_selector(options: dict[str, Any]) -> Selector:
    """Return the selector of the request. Raises CommandError unless exactly one of the two kinds is given."""
    key, value, conversations = options["key"], options["value"], options["conversation"]
    if conversations and key is None:
        return ByConversations(tuple(one for given in conversations for one in _ids(given)))
    if conversations or value is None:
        raise CommandError("Give one chatter by key and value, or conversations by --conversation.")
    return ByUci(key, sys.stdin.readline().rstrip("\n") if value == "-" else value)


def _ids(given: str) -> list[str]:
    return sys.stdin.read().removesuffix("\n").split("\n") if given == "-" else [given]


def _follow(request: ComplianceRequest, *, timeout: float, log: Any) -> ComplianceRequest:
    """Poll until the request has ended or is held, and log each new state."""
    if not heartbeats.is_any_alive():
        log(_NO_WORKER)
    end = time.monotonic() + timeout
    said = ""
    while True:
        request.refresh_from_db()
        total = request.conversations_total
        done = f": {request.conversations:,} of {counted(total, 'conversation')}" if total else ""
        state = f"{request.status}{done}"
        if state != said:
            log(state)
            said = state
        if request.status in EXIT_CODES:
            return request
        if time.monotonic() > end:
            log("Still waiting.")
            return request
        time.sleep(0.2)


def parse_request_id(text: str, *, of: str = "a request id") -> UUID:
    try:
        return UUID(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{of} is a UUID, as the API and the log show it") from None


def parse_hold_id(text: str) -> UUID:
    return parse_request_id(text, of="a hold's id")


def _summary(request: ComplianceRequest) -> str:
    counts = f"{counted(request.conversations, 'conversation')}, {counted(request.messages, 'message')}"
    if request.kind != ComplianceRequest.Kind.EXPORT:
        return f"{counts}, {counted(request.files, 'file')}, {counted(request.exports, 'earlier export')}"
    export = request.export
    bucket = export.bucket or settings.S3_BUCKET
    if request.is_folder:
        return f"{counts}; a folder in {bucket}, with the list of its files at key {export.key}"
    size = f"{counted(export.rows or 0, 'row')}, {counted(export.bytes or 0, 'byte')}"
    return f"{counts}; {size} in {bucket}, key {export.key}"


def find_hold(hold_id: UUID) -> LegalHold:
    """Return a hold. Raises CommandError, also if a restore has left its chatbot closed."""
    hold = LegalHold.objects.select_related("chatbot", "variable").filter(pk=hold_id).first()
    if hold is None:
        raise CommandError("There is no such legal hold: legal_holds lists them.")
    find_open_chatbot(hold.chatbot.slug)
    return hold


def line_of(hold: LegalHold) -> str:
    """Return a line about a hold, without the value."""
    scopes = {
        LegalHold.Scope.UCI: f"one chatter, by {hold.variable.name if hold.variable else 'the UCI'}",
        LegalHold.Scope.CONVERSATIONS: "conversations by their ids",
        LegalHold.Scope.CHATBOT: "the whole chatbot",
    }
    state = (
        f"released {_day(hold, hold.released_at)}"
        if hold.released_at
        else f"in force, review {_day(hold, hold.review_at)}"
    )
    matter = hold.matter or "matter forgotten"
    return f"{hold.pk} {hold.chatbot.slug}: {scopes[LegalHold.Scope(hold.scope)]}, {matter}, {state}"


def _day(hold: LegalHold, at: datetime) -> str:
    return f"{at.astimezone(ZoneInfo(hold.chatbot.timezone)):%Y-%m-%d}"
