"""The results of a program, printed as a table for people and as `results.json` for programs."""

import json
import os
import platform
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from django.db import connection


@dataclass(frozen=True)
class Result:
    """One row of the table. Times in seconds; `size` is in what the name says.

    `cpu_s`: processor time of all our processes, of PostgreSQL and of the S3 server.

    `under`: the ratio is ours ÷ floor, and is to stay under the target. `over`: the ratio is that of the
    rates, so floor ÷ ours, and is to be over it. None means that there is no such value.
    """

    name: str
    size: int
    floor_s: float | None
    ours_s: float
    target: float | None
    direction: Literal["under", "over"] = "under"
    peak_mib: float | None = None
    cpu_s: float | None = None

    @property
    def ratio(self) -> float | None:
        if not self.floor_s or not self.ours_s:
            return None
        return self.ours_s / self.floor_s if self.direction == "under" else self.floor_s / self.ours_s

    def verdict(self) -> str:
        if self.ratio is None or self.target is None:
            return ""
        good = self.ratio <= self.target if self.direction == "under" else self.ratio >= self.target
        return "met" if good else "missed"


@dataclass
class Run:
    """One run of the benchmarks: its options and results. Passed to programs."""

    quick: bool = False
    wanted_rounds: int | None = None
    results: list[Result] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def size(self, full: int, quick: int) -> int:
        return quick if self.quick else full

    def rounds(self, full: int, quick: int = 1) -> int:
        return self.wanted_rounds or self.size(full, quick)

    def log(self, text: str) -> None:
        """Report progress on stderr."""
        print(f"  {datetime.now(UTC):%H:%M:%S} {text}", file=sys.stderr, flush=True)

    def note(self, text: str) -> None:
        """Keep a line of information to print below the table."""
        self.log(text)
        self.notes.append(text)

    def add(self, result: Result) -> None:
        self.log(" ".join(_cells(result)))
        self.results.append(result)


def machine() -> list[str]:
    """Return lines on the machine and the time. Call it before the measurements."""
    with connection.cursor() as cursor:
        cursor.execute("SHOW server_version")
        (postgresql,) = cursor.fetchone()
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    what = f"{os.cpu_count()} cores, {memory:.0f} GiB, {_cpu_model()}, {platform.system()} {platform.release()}"
    when = f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, load average at start {os.getloadavg()[0]:.2f}"
    return [
        f"{what}, Python {platform.python_version()}, PostgreSQL {postgresql}",
        f"{when}, command: {' '.join(['python -m benchmarks', *sys.argv[1:]])}",
    ]


def table(results: Iterable[Result]) -> str:
    """Return the rows as a table in Markdown."""
    rows = [["what", "size", "floor, s", "ours, s", "ratio", "target", "", "CPU, s", "peak, MiB"]]
    rows += [_cells(result) for result in results]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |" for row in rows
    ]
    lines.insert(1, "| " + " | ".join("-" * width for width in widths) + " |")
    return "\n".join(lines)


def write(path: Path, results: Iterable[Result]) -> None:
    """Write the results, ratios included, as one JSON list."""
    order = ("name", "size", "floor_s", "ours_s", "ratio", "target", "direction", "cpu_s", "peak_mib")
    rows = [{name: getattr(result, name) for name in order} for result in results]
    path.write_text(json.dumps(rows, indent=1) + "\n")


def _cells(result: Result) -> list[str]:
    sign = "≤" if result.direction == "under" else "≥"
    return [
        result.name,
        f"{result.size:,}",
        _seconds(result.floor_s),
        _seconds(result.ours_s),
        "" if result.ratio is None else f"{result.ratio:.2f}",
        "" if result.target is None else f"{sign} {result.target:g}",
        result.verdict(),
        _seconds(result.cpu_s),
        "" if result.peak_mib is None else f"{result.peak_mib:.0f}",
    ]


def _seconds(seconds: float | None) -> str:
    if seconds is None:
        return ""
    return f"{seconds:.4f}" if seconds < 0.1 else f"{seconds:.2f}"


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()
