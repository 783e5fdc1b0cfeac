"""`make check` runs every long test in one of four quarters, and at once those of what was touched last."""

import os
import subprocess
import sys
from collections import Counter
from itertools import compress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests import quarters
from tests.quarters import QUARTERS

_ROOT = Path(__file__).parents[1]
LONG = quarters.long_modules()


def git(clone: Path, *args: str) -> None:
    who = ("-c", "user.name=x", "-c", "user.email=x@example.com", "-c", "commit.gpgsign=false")
    subprocess.run(["git", "-C", clone, *who, *args], check=True, capture_output=True)


def commit(clone: Path, *files: str) -> None:
    for file in files:
        (clone / file).parent.mkdir(parents=True, exist_ok=True)
        (clone / file).write_text(os.urandom(8).hex())
    git(clone, "add", "--all")
    git(clone, "commit", "--quiet", "--allow-empty", "--message=one")


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A clone of all, which has tests of `compliance/` and `compliance/work/`."""
    git(tmp_path, "init", "--quiet", "--initial-branch=main")
    commit(tmp_path, "README.md", "console/views.py", "tests/compliance/work/test_claims.py")
    return tmp_path


@pytest.fixture
def shallow(clone: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    git(clone, "clone", "--quiet", "--depth=1", f"file://{clone}", folder := str(tmp_path_factory.mktemp("shallow")))
    return Path(folder)


def test_each_quarter_has_its_turn_within_four_commits(clone: Path) -> None:
    turns = []
    for _ in range(8):
        commit(clone)
        turns.append(quarters.by_commit(clone))

    assert sorted(turns[:4]) == list(QUARTERS)
    assert turns[4:] == turns[:4]


def test_a_shallow_clone_cannot_count_and_does_not_know_what_its_oldest_commit_touched(shallow: Path) -> None:
    assert quarters.touched(shallow) == []

    found = set()
    for _ in range(12):
        commit(shallow, "README.md")
        found.add(quarters.by_commit(shallow))
    assert len(found) > 1


def test_what_four_commits_and_uncommitted_changes_touch_is_known(clone: Path) -> None:
    git(clone, "switch", "--quiet", "--create", "branch")
    commit(clone, "compliance/work/transitions/requeue.py")
    for _ in range(6):
        commit(clone)
    git(clone, "switch", "--quiet", "main")
    git(clone, "merge", "--quiet", "--no-ff", "--no-edit", "branch")
    commit(clone, "docs/api.md", "tests/functional/support.py")
    commit(clone, "tests/functional/test_races.py")
    (clone / "compliance/tasks.py").touch()
    (clone / "compliance/work/claims.py").touch()
    assert quarters.touched(clone) == ["tests/compliance", "tests/compliance/work", "tests/functional/test_races.py"]

    git(clone, "clean", "--force", "--quiet")
    commit(clone)
    assert quarters.touched(clone) == ["tests/compliance/work", "tests/functional/test_races.py"]
    commit(clone)
    assert quarters.touched(clone) == ["tests/functional/test_races.py"]


class Item:
    """A test of a module, long where it has marks."""

    def __init__(self, module: str, marks: list[Any]) -> None:
        self.path, self.marks, self.nodeid = _ROOT / module, marks, module

    def iter_markers(self, name: str) -> list[Any]:
        return self.marks


def configured(quarter: int, *touched: str) -> Any:
    option = SimpleNamespace(quarter=quarter, touched=touched)
    return SimpleNamespace(option=option, hook=SimpleNamespace(pytest_deselected=lambda *, items: None))


def ran(quarter: int, *touched: str, **mark: Any) -> list[str]:
    """Return the modules of which the long tests run. Each has another test, which always does."""
    config = configured(quarter, *touched)
    long: Any = [Item(module, [pytest.mark.long(reason="x", **mark).mark]) for module in LONG]
    others: Any = [Item(module, []) for module in LONG]
    items = [*long, *others]
    quarters.select(config, items)
    assert [item for item in items if item in others] == others
    return [str(item.path.relative_to(_ROOT)) for item in items if item in long]


def test_each_module_is_in_one_quarter_and_each_quarter_has_about_as_many() -> None:
    runs = [ran(quarter) for quarter in QUARTERS]

    assert Counter(module for run in runs for module in run) == Counter(LONG)
    sizes = [len(run) for run in runs]
    assert max(sizes) <= 1.4 * min(sizes), "Take another seed: tests/quarters.py says how to find it."


def test_cases_are_spread_where_a_mark_says_so() -> None:
    marks = [pytest.mark.long(reason="x", spread=True).mark]
    cases: Any = [Item(LONG[0], marks) for _ in range(40)]
    for number, case in enumerate(cases):
        case.nodeid = f"{LONG[0]}::test[{number}]"
    ran = []
    for quarter in QUARTERS:
        items = list(cases)
        quarters.select(configured(quarter), items)
        assert 4 <= len(items) <= 16
        ran += items
    assert Counter(ran) == Counter(cases)


@pytest.mark.parametrize("quarter", QUARTERS)
def test_what_was_touched_or_marked_so_runs_in_each_quarter(quarter: int) -> None:
    module, *_, other = LONG
    folder = Path(other).parent
    neighbours = {one for one in LONG if Path(one).parent == folder}

    assert set(ran(quarter, module, str(folder))) == {*ran(quarter), module, *neighbours}
    assert ran(quarter, each_quarter=True) == LONG


@pytest.mark.parametrize(("given", "runs"), [(None, None), ("", 3), ("2", 2), ("4", 4)])
def test_a_quarter_that_is_set_wins(given: str | None, runs: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quarters, "by_commit", lambda clone: 3)
    config: Any = SimpleNamespace(option=SimpleNamespace(quarter=given))
    quarters.settle(config)

    assert config.option.quarter == runs


@pytest.mark.parametrize("given", ["0", "5", "two"])
def test_a_quarter_that_is_none_is_refused(given: str) -> None:
    config: Any = SimpleNamespace(option=SimpleNamespace(quarter=given))

    with pytest.raises(pytest.UsageError, match="one of 1, 2, 3, 4"):
        quarters.settle(config)


@pytest.mark.long(reason="pytest is started on its own, and collects")
def test_pytest_leaves_out_the_other_quarters_and_says_so() -> None:
    options = ["-n", "0", "-m", "long", "--collect-only", "-q", "--quarter=3", "tests/chatbots"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    out = subprocess.check_output([sys.executable, "-m", "pytest", *options], cwd=_ROOT, env=environment, text=True)

    touched = quarters.touched(_ROOT)
    folder = [module for module in LONG if Path(module).parent == Path("tests/chatbots")]
    is_due = [quarters.quarter_of(one) == 3 or one in touched or "tests/chatbots" in touched for one in folder]
    assert {line.split("::")[0] for line in out.splitlines() if "::" in line} == set(compress(folder, is_due))
    assert "quarter 3 ran" in out
