"""Which long tests `make check` runs: a quarter of their modules, and those of what the last commits touched.

A module's quarter is a hash of its path, so a new module moves no other. The seed of the hash is one with which
the quarters take equally long. To find another after a run of all long tests:

    make test ARGS="-m long --junitxml=var/long.xml" && .venv/bin/python -m tests.quarters var/long.xml
"""

import argparse
import hashlib
import subprocess
import sys
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from xml.etree import ElementTree

import pytest

QUARTERS = (1, 2, 3, 4)
# Each of the four quarters runs once while a touched file counts as such.
_COMMITS = len(QUARTERS)
_SEED = 1996
_EACH = "each_quarter=True"
_LONG = ("mark.long(", "@in_a_browser")
_TRIED_SEEDS = 5_000
_ROOT = Path(__file__).parents[1]


def quarter_of(name: str, *, seed: int = _SEED) -> int:
    """Return the quarter, 1 to 4, of a test module, by its path below the project's folder, or of one case."""
    return QUARTERS[hashlib.sha256(f"{seed} {name}".encode()).digest()[0] % len(QUARTERS)]


def settle(config: pytest.Config) -> None:
    """Decide what `--quarter` runs. Processes of xdist do what the first one has decided."""
    option = config.option
    if hasattr(config, "workerinput"):
        option.quarter, option.touched = config.workerinput["quarter"]
    elif option.quarter is not None:
        if option.quarter not in ("", *map(str, QUARTERS)):
            raise pytest.UsageError("--quarter (QUARTER of make) is one of 1, 2, 3, 4, or empty: by the commit.")
        option.quarter = int(option.quarter) if option.quarter else by_commit(_ROOT)
        option.touched = touched(_ROOT)


def by_commit(clone: Path) -> int:
    """Return the quarter whose turn it is: by the number of commits, or by the commit's id where not all are here."""
    is_shallow = _git(clone, "rev-parse", "--is-shallow-repository") == ["true"]
    [turn] = _git(clone, "rev-parse", "HEAD") if is_shallow else _git(clone, "rev-list", "--count", "HEAD")
    return QUARTERS[int(turn, 16 if is_shallow else 10) % len(QUARTERS)]


def touched(clone: Path) -> list[str]:
    """Return the test modules, and the folders of tests, of what the last commits and uncommitted changes touch.

    `compliance/work/claims.py` has its tests in `tests/compliance/work`, or in the nearest folder above that exists.
    A merge counts as one commit, with all that it brings. A commit whose parent is not here shows nothing.
    """
    options = (f"-{_COMMITS}", "--first-parent", "-m", "--name-only", "--no-renames", "--format=")
    files = _git(clone, "-c", "log.showRoot=false", "log", *options)
    files += _git(clone, "diff", "--name-only", "--no-renames", "HEAD")
    files += _git(clone, "ls-files", "--others", "--exclude-standard")
    modules = {file for file in files if file.startswith("tests/") and Path(file).name.startswith("test_")}
    folders = {_folder_of_tests(clone, file) for file in files if not file.startswith("tests/") and "/" in file}
    return sorted(modules | folders - {"tests"})


def _folder_of_tests(clone: Path, file: str) -> str:
    folder = Path("tests", file).parent
    while not (clone / folder).is_dir():
        folder = folder.parent
    return str(folder)


def select(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave long tests out that are neither of this quarter, nor of each, nor of what was touched."""
    left_out = {item for item in items if not _runs(item, config.option)}
    config.hook.pytest_deselected(items=list(left_out))
    items[:] = [item for item in items if item not in left_out]


def _runs(item: pytest.Item, option: argparse.Namespace) -> bool:
    marks = list(item.iter_markers("long"))
    if not marks or any(mark.kwargs.get("each_quarter") for mark in marks):
        return True
    module = item.path.relative_to(_ROOT)
    is_touched = not {str(module), str(module.parent)}.isdisjoint(option.touched)
    name = item.nodeid if any(mark.kwargs.get("spread") for mark in marks) else str(module)
    return is_touched or quarter_of(name) == option.quarter


def _git(clone: Path, *args: str) -> list[str]:
    run = subprocess.run(["git", "-C", clone, *args], capture_output=True, text=True, check=False)
    if run.returncode:
        raise pytest.UsageError(f"--quarter needs a git clone with a commit: {run.stderr.strip()}")
    return run.stdout.splitlines()


def shares(weights: Mapping[str, float], *, seed: int = _SEED) -> list[float]:
    """Return which part of the weight of all modules each quarter has."""
    loads = dict.fromkeys(QUARTERS, 0.0)
    for module, weight in weights.items():
        loads[quarter_of(module, seed=seed)] += weight
    return [loads[quarter] / sum(weights.values()) for quarter in QUARTERS]


def long_modules() -> list[str]:
    """Return the test modules that mark something as long, and not for each quarter."""
    modules = [str(file.relative_to(_ROOT)) for file in sorted((_ROOT / "tests").rglob("test_*.py"))]
    texts = {module: _text(module) for module in modules}
    return [one for one, text in texts.items() if any(mark in text for mark in _LONG) and _EACH not in text]


def _text(module: str) -> str:
    return (_ROOT / module).read_text()


def main(report: str) -> None:
    """Print the quarters' shares of a report's durations, and the seed that divides these and the modules best."""
    modules = dict.fromkeys(long_modules(), 1.0)
    seconds: dict[str, float] = defaultdict(float)
    for case in ElementTree.parse(report).iter("testcase"):  # noqa: S314  (pytest's own report)
        seconds[case.attrib["classname"].replace(".", "/") + ".py"] += float(case.attrib["time"])
    seconds = {module: weight for module, weight in seconds.items() if _EACH not in _text(module)}

    def largest(seed: int) -> float:
        return max(*shares(seconds, seed=seed), *shares(modules, seed=seed))

    for seed in (_SEED, min(range(_TRIED_SEEDS), key=largest)):
        for name, weights in (("seconds", seconds), ("modules", modules)):
            parts = ", ".join(f"{share:.1%}" for share in shares(weights, seed=seed))
            sys.stdout.write(f"_SEED = {seed}: {parts} of the {name}\n")


if __name__ == "__main__":
    main(sys.argv[1])
