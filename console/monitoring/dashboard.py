"""The dashboard (requests by state, and those that need attention), and the pages to which its tiles lead.

These are the list of refused identities, and the page of the workers and their work.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import NamedTuple
from zoneinfo import ZoneInfo

from django.db.models import Q
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.utils import timezone

from common.times import midnight
from compliance.cluster import broker, heartbeats
from compliance.cluster.heartbeats import Condition
from compliance.deadlines import DUE_SOON_WITHIN
from compliance.models import ComplianceRequest, Occurrence
from compliance.work import health
from compliance.work.health import OldestRequest
from console.common.charts import Chart, Series, bars
from console.common.lists import MergedQuery
from console.common.pages import page, render
from console.common.scope import DECIDE, ChatbotScope, is_superuser, may, scope_of, visible_chatbots
from console.monitoring import dashboard_queries as queries
from console.monitoring.dashboard_queries import Number, Period
from console.templatetags.console import duration
from conversations.models import RefusedIdentity
from conversations.models.conversations import EARLIEST
from conversations.usage import conversations_per_day

Kind = ComplianceRequest.Kind
Status = ComplianceRequest.Status

PERIODS = (7, 30, 90)
_ONE_DAY = timedelta(days=1)


class Tile(NamedTuple):
    """A number with a link to the list it counts; `tone` is set unless the number is 0."""

    label: str
    value: str
    url: str
    note: str = ""
    tone: str = ""


@dataclass(frozen=True)
class KindRow:
    kind: str
    cells: Sequence[tuple[str, int, str]]
    duration: queries.Duration | None


@page
def dashboard(request: HttpRequest) -> HttpResponse:
    scope = scope_of(request)
    days = _days(request.GET.get("days", ""))
    now = timezone.now()
    zone = ZoneInfo(scope.zone)
    first = now.astimezone(zone).date() - (days - 1) * _ONE_DAY
    period = queries.filed_since(scope.ids, since=midnight(first, zone), zone=scope.zone)
    clusters = heartbeats.clusters()
    oldest = health.oldest_waiting(scope.ids)
    alive = sum(cluster.condition is Condition.ALIVE for cluster in clusters)
    waits_long = oldest is not None and oldest.age > health.LONGEST_WAIT
    tiles = _tiles(scope, oldest, alive=alive, waits_long=waits_long)
    decides = [one.pk for one in scope.visible if one.pk in scope.ids and may(request, one, DECIDE)]
    if decides:
        refused = queries.refused_identities(decides)
        tiles.append(
            _tile(
                "Refused identities", refused, scope.link("console:refused_identities"), "warn", "of erased chatters"
            )
        )
    return render(
        request,
        "console/monitoring/dashboard.html",
        title="Dashboard",
        scope=scope,
        days=days,
        periods=PERIODS,
        tiles=tiles,
        alive=alive,
        waits_long=waits_long,
        needs=queries.needs_attention(scope.ids),
        charts=_charts(scope, first, now, period),
        period=period,
        since=first,
        rows=[_row(scope, kind, period, first) for kind in Kind],
    )


def _days(given: str) -> int:
    return int(given) if given in map(str, PERIODS) else 30


def _tiles(scope: ChatbotScope, oldest: OldestRequest | None, *, alive: int, waits_long: bool) -> list[Tile]:
    open_now = queries.open_now(scope.ids)

    def of(status: Status, label: str, tone: str = "", note: str = "") -> Tile:
        return _tile(label, open_now.by_status[status], _requests(scope, status=status), tone, note)

    age = "none" if oldest is None else duration(oldest.age)
    return [
        _tile("Overdue", open_now.overdue, f"{scope.link('console:due')}#overdue", "bad"),
        _tile(f"Due within {DUE_SOON_WITHIN.days} days", open_now.due_soon, _requests(scope, due="soon"), "warn"),
        of(Status.ON_HOLD, "On hold", "warn", "for a decision, or by a legal hold"),
        of(Status.FAILED, "Failed", "bad", "need a retry"),
        of(Status.ACCEPTED, "Waiting"),
        of(Status.PROCESSING, "In progress"),
        Tile(
            "Oldest waiting request",
            age,
            reverse("console:request", args=[oldest.request_id]) if oldest else "",
            "of requests that can start",
            "bad" if waits_long else "",
        ),
        Tile("Workers", "running" if alive else "none", reverse("console:workers"), "", "" if alive else "bad"),
    ]


def _tile(label: str, number: Number, url: str, tone: str = "", note: str = "") -> Tile:
    return Tile(label, str(number), url, note, tone if number.value else "")


def _charts(scope: ChatbotScope, first: date, now: datetime, period: Period) -> list[Chart]:
    zone = ZoneInfo(scope.zone)
    last = now.astimezone(zone).date()
    days = [first + number * _ONE_DAY for number in range((last - first).days + 1)]
    began = conversations_per_day(
        scope.ids,
        zone=scope.zone,
        since=midnight(first, zone),
        until=midnight(last + _ONE_DAY, zone),
    )
    requests = [
        Series(
            f"{kind.label}s",
            {day: number for (one, day), number in period.per_day.items() if one == kind},
            _requests(scope, kind=kind.value, received_from="{day}", received_to="{day}"),
        )
        for kind in Kind
    ]
    log = scope.link("console:conversations", since="{day}", until="{day}") if scope.chosen else ""
    of_conversations = Series("Conversations", began.counts, log)
    return [
        bars("requests", "Requests filed per day", requests, days, zone=scope.zone, is_whole=period.is_whole),
        bars(
            "conversations",
            "Conversations per day",
            [of_conversations],
            days,
            zone=scope.zone,
            is_whole=began.is_whole,
        ),
    ]


def _row(scope: ChatbotScope, kind: Kind, period: Period, first: date) -> KindRow:
    since = first.isoformat()
    cells = [
        (
            status.label,
            period.by_status.get((kind, status), 0),
            _requests(scope, kind=kind.value, status=status.value, received_from=since),
        )
        for status in Status
    ]
    return KindRow(f"{kind.label}s", cells, period.durations.get(kind))


def _requests(scope: ChatbotScope, **filters: str) -> str:
    return scope.link("console:requests", view="all", **filters)


@page
def refused_identities(request: HttpRequest) -> HttpResponse:
    """List the conversations that were to be given the value of an erased chatter."""
    scope = scope_of(request, roles=DECIDE)
    is_listed = Q(at__gt=EARLIEST)  # by the index of the list
    rows = RefusedIdentity.objects.select_related("chatbot").filter(is_listed, chatbot__in=scope.ids)
    return render(
        request,
        "console/monitoring/refused.html",
        title="Refused identities",
        scope=scope,
        page=MergedQuery(rows, scope.ids, conditions=(is_listed,), of_conversations=True).page(request),
    )


_TONES = {Condition.ALIVE: "ok", Condition.STALLED: "warn", Condition.GONE: "bad", Condition.STOPPED: "mute"}


@page
def workers(request: HttpRequest) -> HttpResponse:
    sees_all = is_superuser(request)
    chatbots = None if sees_all else [chatbot.pk for chatbot in visible_chatbots(request)]
    found = health.check(chatbots=chatbots)
    last_sweep = found.last[Occurrence.Name.SWEEP].last_at
    return render(
        request,
        "console/monitoring/workers.html",
        title="Workers",
        health=found,
        problems=found.problems,
        clusters=[
            (beat, condition, _TONES[condition], found.at - beat.seen_at) for beat, condition in found.clusters
        ],
        claims=[(claim, found.at - claim.since, claim.expires_at < found.at) for claim in found.claims],
        sweep_age=last_sweep and max(timedelta(0), found.at - last_sweep),
        clean_age=found.canary.clean_at and max(timedelta(0), found.at - found.canary.clean_at),
        failed_tasks=broker.failed_tasks() if sees_all else None,
        sees_all=sees_all,
    )
