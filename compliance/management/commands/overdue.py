from typing import Any

from django.core.management.base import CommandParser
from django.utils import timezone

from chatbots.management.base import find_chatbot
from common.commands import ReportingCommand
from common.texts import counted
from compliance.deadlines import DUE_SOON_WITHIN, describe
from compliance.models import ComplianceRequest
from compliance.requests import queries

_FOUND = 3
_DAYS = DUE_SOON_WITHIN.days


class Command(ReportingCommand):
    help = f"""List the open requests that are past their deadline, and whose person was not answered, oldest first.

With --soon also those that are due within {_DAYS} days. Days late are negative for these.
"""
    examples = """\
examples:
  manage.py overdue
  manage.py overdue acme --soon --json

Decide on a request on hold, mend the cause of a failed one, or extend a deadline before it has passed
(extend_request).

exit codes: 0 there are none, 1 there is no such chatbot, 3 there are some
"""

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("slug", nargs="?", help="Of this chatbot only.")
        parser.add_argument("--soon", action="store_true", help=f"Also those that are due within {_DAYS} days.")

    def handle(self, *args: Any, **options: Any) -> None:
        chatbot = find_chatbot(options["slug"]) if options["slug"] else None
        found = [_as_json(one) for one in queries.overdue(chatbot, with_soon=options["soon"])]
        self.report({"requests": found}, *map(_line, found))
        if found:
            raise SystemExit(_FOUND)


def _as_json(request: ComplianceRequest) -> dict[str, Any]:
    return {
        "request_id": str(request.pk),
        "chatbot": request.chatbot.slug,
        **{name: getattr(request, name) for name in ("kind", "status", "deadline", "due_at")},
        "days_late": (timezone.now() - request.due_at).days,
        "waits_for": request.hold_reason or request.waiting_for or request.error_code,
    }


def _line(one: dict[str, Any]) -> str:
    late = counted(one["days_late"], "day") + " late" if one["days_late"] >= 0 else "due soon"
    waits = f" ({one['waits_for']})" if one["waits_for"] else ""
    due = f"{one['due_at']:%Y-%m-%d %H:%M} UTC, {describe(one['deadline'])}"
    return f"{one['request_id']} {one['chatbot']} {one['kind']} {one['status']}{waits}: due {due}: {late}"
