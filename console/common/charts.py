"""Bar charts by day, rendered as SVG by `console/chart.html`, with a table of the numbers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date

# In units of the SVG, which is scaled to the page. Bars are a little narrower than the slot of their day.
_SLOT, HEIGHT = 10, 100


@dataclass(frozen=True)
class Series:
    """Counts by day. `link` is the URL of a day's list, with `{day}` in it."""

    label: str
    counts: Mapping[date, int]
    link: str = ""


@dataclass(frozen=True)
class Bar:
    number: int
    url: str
    y: float
    height: float


@dataclass(frozen=True)
class Day:
    day: date
    slot: int
    bars: Sequence[Bar]

    @property
    def total(self) -> int:
        return sum(bar.number for bar in self.bars)


@dataclass(frozen=True)
class Chart:
    """Stacked bars by day. `name` is unique on the page."""

    name: str
    title: str
    description: str
    series: Sequence[Series]
    days: Sequence[Day]
    top: int
    is_whole: bool = True

    @property
    def width(self) -> int:
        return len(self.days) * _SLOT

    @property
    def marks(self) -> list[date]:
        return [self.days[0].day, self.days[len(self.days) // 2].day, self.days[-1].day]


def bars(
    name: str, title: str, series: Sequence[Series], days: Sequence[date], *, zone: str, is_whole: bool = True
) -> Chart:
    totals = {day: sum(each.counts.get(day, 0) for each in series) for day in days}
    top = _round_up(max(totals.values(), default=0))
    highest = max(days, key=lambda day: totals[day])
    description = (
        f"{sum(totals.values()):,} in {len(days)} days, {days[0]:%Y-%m-%d} to {days[-1]:%Y-%m-%d} ({zone})."
        + (f" Most on {highest:%Y-%m-%d}: {totals[highest]:,}." if totals[highest] else "")
    )
    drawn = [_day(place, day, series, top) for place, day in enumerate(days)]
    return Chart(name, title, description, series, drawn, top, is_whole)


def _day(place: int, day: date, series: Sequence[Series], top: int) -> Day:
    found, below = [], 0.0
    for each in series:
        number = each.counts.get(day, 0)
        height = round(HEIGHT * number / top, 2)
        url = each.link.replace("{day}", day.isoformat()) if number else ""
        found.append(Bar(number, url, HEIGHT - below - height, height))
        below += height
    return Day(day, place * _SLOT, found)


def _round_up(number: int) -> int:
    """Return the next of 1, 2, 5, 10, 20, 50, … for the top of the scale."""
    step = 1
    while step * 10 < number:
        step *= 10
    return next(step * times for times in (1, 2, 5, 10) if step * times >= number)
