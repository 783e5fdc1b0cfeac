"""Bar charts by day, rendered as SVG by `console/chart.html`, with a table of the numbers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date

# In units of the SVG, which is scaled to the page.
_SLOT, _BAR, HEIGHT = 10, 8, 100


@dataclass(frozen=True)
class Series:
    """Counts by day. `link` is the URL of a day's list, with `{day}` in it."""

    label: str
    counts: Mapping[date, int]
    link: str = ""


@dataclass(frozen=True)
class Piece:
    """A rectangle; `tone` is the number of its series."""

    x: int
    y: float
    width: int
    height: float
    tone: int


@dataclass(frozen=True)
class Cell:
    number: int
    url: str


@dataclass(frozen=True)
class Day:
    day: date
    cells: Sequence[Cell]
    pieces: Sequence[Piece]
    slot: int

    @property
    def total(self) -> int:
        return sum(cell.number for cell in self.cells)


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
        """The days labelled on the axis."""
        return [self.days[0].day, self.days[len(self.days) // 2].day, self.days[-1].day]

    @property
    def total(self) -> int:
        return sum(day.total for day in self.days)


def bars(
    name: str, title: str, series: Sequence[Series], days: Sequence[date], *, zone: str, is_whole: bool = True
) -> Chart:
    """Return a chart of ordered days."""
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
    cells, pieces, below = [], [], 0.0
    for tone, each in enumerate(series, start=1):
        number = each.counts.get(day, 0)
        height = round(HEIGHT * number / top, 2)
        if number:
            pieces.append(Piece(place * _SLOT + (_SLOT - _BAR) // 2, HEIGHT - below - height, _BAR, height, tone))
        below += height
        cells.append(Cell(number, each.link.replace("{day}", day.isoformat()) if number else ""))
    return Day(day, cells, pieces, place * _SLOT)


def _round_up(number: int) -> int:
    """Return the next of 1, 2, 5, 10, 20, 50, … for the top of the scale."""
    step = 1
    while step * 10 < number:
        step *= 10
    return next(step * times for times in (1, 2, 5, 10) if step * times >= number)
