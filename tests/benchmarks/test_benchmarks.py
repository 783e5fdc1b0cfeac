"""What the benchmarks promise to readers. `make bench ARGS=--quick` shows that they run."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from benchmarks.__main__ import describe, run_each
from benchmarks.place import Busy, exclusive_folder
from benchmarks.programs import NAMES
from benchmarks.results import Result, Run, table, write

ROOT = Path(__file__).resolve().parents[2]

UNDER = Result("queued deletions", 1_000, floor_s=2.0, ours_s=3.0, target=2.0, cpu_s=5.0, peak_mib=90.0)
OVER = Result("accepted", 200, floor_s=1.0, ours_s=4.0, target=0.6, direction="over")
NO_FLOOR = Result("longest transaction", 5, floor_s=None, ours_s=0.5, target=None)


def _benchmarks(var_dir: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "benchmarks", *words],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], "VAR_DIR": str(var_dir)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_each_program_is_listed_with_what_it_measures(tmp_path: Path) -> None:
    listed = _benchmarks(tmp_path, "--list")

    assert listed.returncode == 0
    assert [line.split()[0] for line in listed.stdout.splitlines()] == list(NAMES)
    assert all(describe(name) in listed.stdout for name in NAMES)
    modules = {path.stem for path in (ROOT / "benchmarks" / "programs").glob("*.py")} - {"__init__"}
    assert modules == set(NAMES)


def test_the_page_describes_each_program() -> None:
    page = (ROOT / "docs" / "explanation" / "benchmarks.md").read_text(encoding="utf-8")

    assert sorted(re.findall(r"^\| `([a-z_]+)` \|", page, re.MULTILINE)) == sorted(NAMES)


@pytest.mark.long(reason="a process for each")
@pytest.mark.parametrize("words", [("--rounds", "0"), ("--rounds", "x"), ("--only", "unknown")])
def test_bad_arguments_are_refused_before_anything_starts(tmp_path: Path, words: tuple[str, str]) -> None:
    refused = _benchmarks(tmp_path, *words)

    assert refused.returncode == 2
    assert words[0] in refused.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_failed_program_does_not_stop_the_others(monkeypatch, capsys) -> None:
    def fail(_run: Run) -> None:
        raise RuntimeError("it broke")

    first, second = NAMES[:2]
    monkeypatch.setitem(sys.modules, f"benchmarks.programs.{first}", SimpleNamespace(run=fail))
    monkeypatch.setitem(sys.modules, f"benchmarks.programs.{second}", SimpleNamespace(run=lambda run: run.add(UNDER)))
    run = Run()
    emptied: list[bool] = []

    assert run_each(run, [first, second], before=lambda: emptied.append(True)) == [first]
    assert run.results == [UNDER]
    assert len(emptied) == 2
    assert "it broke" in capsys.readouterr().err


def test_two_runs_cannot_have_the_same_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.place.VAR_DIR", tmp_path / "bench")
    with exclusive_folder(), pytest.raises(Busy), exclusive_folder():
        pass


def test_a_ratio_compares_times_or_rates() -> None:
    assert (UNDER.ratio, UNDER.verdict()) == (1.5, "met")
    assert (OVER.ratio, OVER.verdict()) == (0.25, "missed")
    assert (NO_FLOOR.ratio, NO_FLOOR.verdict()) == (None, "")


def test_the_rows_are_written_as_one_list(tmp_path: Path) -> None:
    write(tmp_path / "results.json", [UNDER, NO_FLOOR])

    first, second = json.loads((tmp_path / "results.json").read_text())
    assert first == {
        "name": "queued deletions",
        "size": 1_000,
        "floor_s": 2.0,
        "ours_s": 3.0,
        "ratio": 1.5,
        "target": 2.0,
        "direction": "under",
        "cpu_s": 5.0,
        "peak_mib": 90.0,
    }
    assert (second["floor_s"], second["ratio"], second["target"], second["peak_mib"]) == (None,) * 4


def test_the_table_has_a_line_for_each_row() -> None:
    head, rule, *lines = table([UNDER, OVER, NO_FLOOR]).splitlines()

    assert [cell.strip() for cell in lines[0].strip("|").split("|")] == [
        "queued deletions",
        "1,000",
        "2.00",
        "3.00",
        "1.50",
        "≤ 2",
        "met",
        "5.00",
        "90",
    ]
    assert len({len(line) for line in (head, rule, *lines)}) == 1
