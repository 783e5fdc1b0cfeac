"""Due: the open requests by the day by which each must be answered: first the overdue ones, then week by week.

A week is one of ISO 8601, from Monday to Sunday. A day is one of the request's chatbot: it begins at midnight in the
chatbot's time zone, so a request shows the same date here as on its own page.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import NamedTuple
from uuid import UUID
from zoneinfo import ZoneInfo

from django.http import HttpRequest, HttpResponse
from django.utils import timezone

from chatbots.models import Chatbot
from common.texts import counted
from compliance.models import ComplianceRequest
from compliance.work.due import MOST_LISTED, DueRequest, by_deadline
from console.common.pages import page, render
from console.common.scope import ChatbotScope, scope_of

# Rows of a week, and weeks. The list of requests shows the others.
MOST_ROWS = 25
MOST_WEEKS = 12

_OVERDUE = date.min


class DueRow(NamedTuple):
    request: ComplianceRequest
    left: str
    is_soon: bool


@dataclass(frozen=True)
class Week:
    """The requests that are due in a week, the overdue ones, or those after the last week that is shown.

    `number` counts them, and `list_url` leads to the list of all of them.
    """

    name: str
    label: str
    number: int
    rows: list[DueRow]
    list_url: str
    days: str = ""

    @property
    def title(self) -> str:
        return f"{self.label}, {self.days}" if self.days else self.label

    @property
    def others(self) -> int:
        return self.number - len(self.rows)


@page
def due(request: HttpRequest) -> HttpResponse:
    scope = scope_of(request)
    found = by_deadline(scope.ids)
    weeks = _weeks(scope, found.requests, timezone.now())
    zones = {one.timezone for one in scope.visible if one.pk in scope.ids}
    return render(
        request,
        "console/requests/due.html",
        title="Due",
        scope=scope,
        weeks=weeks,
        number=len(found.requests),
        is_whole=found.is_whole,
        most=MOST_LISTED,
        zone=zones.pop() if len(zones) == 1 else "",
        now=timezone.now(),
    )


def _weeks(scope: ChatbotScope, requests: Sequence[DueRequest], now: datetime) -> list[Week]:
    chatbots = {one.pk: one for one in scope.visible}
    groups: dict[date, list[DueRequest]] = defaultdict(list)
    for one in requests:
        monday = _monday(_day(one.due_at, chatbots[one.chatbot_id]))
        groups[_OVERDUE if one.is_overdue else monday].append(one)
    mondays = sorted(groups)
    shown, later = mondays[: MOST_WEEKS + 1], mondays[MOST_WEEKS + 1 :]
    rows = _rows([one for monday in shown for one in groups[monday][:MOST_ROWS]], chatbots, now)
    this_week = _monday(now.astimezone(ZoneInfo(scope.zone)).date())
    weeks = [
        Week(
            name="overdue" if monday == _OVERDUE else monday.strftime("week-%G-%V"),
            label="Overdue" if monday == _OVERDUE else _label(monday, this_week),
            days="" if monday == _OVERDUE else f"{monday} to {monday + timedelta(days=6)}",
            number=len(groups[monday]),
            rows=[rows[one.id] for one in groups[monday][:MOST_ROWS] if one.id in rows],
            list_url=_list_url(scope, monday, monday + timedelta(days=6)),
        )
        for monday in shown
    ]
    if later:
        number = sum(len(groups[monday]) for monday in later)
        url = _list_url(scope, later[0], None)
        weeks.append(Week("later", "Later", number, [], url, days=f"from {later[0]} on"))
    return weeks


def _rows(requests: Sequence[DueRequest], chatbots: dict[int, Chatbot], now: datetime) -> dict[UUID, DueRow]:
    """Return the rows by the requests' ids, with one statement."""
    found = ComplianceRequest.objects.defer(*ComplianceRequest.UNREAD).in_bulk([one.id for one in requests])
    rows: dict[UUID, DueRow] = {}
    for one in requests:
        if shown := found.get(one.id):
            chatbot = shown.chatbot = chatbots[one.chatbot_id]
            days = (_day(one.due_at, chatbot) - _day(now, chatbot)).days
            rows[one.id] = DueRow(shown, _left(days, is_overdue=one.is_overdue), one.is_soon)
    return rows


def _day(at: datetime, chatbot: Chatbot) -> date:
    return at.astimezone(ZoneInfo(chatbot.timezone)).date()


def _monday(day: date) -> date:
    return day - timedelta(days=day.weekday())


def _label(monday: date, this_week: date) -> str:
    names = {this_week: "This week", this_week + timedelta(days=7): "Next week"}
    return names.get(monday, f"Week {monday:%V}")


def _left(days: int, *, is_overdue: bool) -> str:
    if days < 0:
        return f"{counted(-days, 'day')} late"
    if days == 0:
        return "late since today" if is_overdue else "today"
    return f"in {counted(days, 'day')}"


def _list_url(scope: ChatbotScope, first: date, last: date | None) -> str:
    """Return the address of the list of the requests that are due on these days, or of the overdue ones."""
    days = {"due_from": first.isoformat()} | ({"due_to": last.isoformat()} if last else {})
    return scope.link("console:requests", **({"due": "overdue"} if first == _OVERDUE else {"due": "ahead"} | days))
