"""The table of docs/explanation/failure-modes.md contains only existing tests and faults, and all faults."""

import ast
import re
from pathlib import Path

from tests.faults.catalogue import FAULTS

_ROOT = Path(__file__).resolve().parents[2]


def rows() -> list[list[str]]:
    text = (_ROOT / "docs" / "explanation" / "failure-modes.md").read_text()
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines[2:]]


def found_in(path: str) -> set[str]:
    file = _ROOT / "tests" / path
    tree = ast.parse(file.read_text()) if file.exists() else ast.Module([], [])
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")}


def test_each_row_names_tests_that_there_are() -> None:
    named = {row[0]: re.findall(r"`(\S+\.py)::(\w+)`", row[2]) for row in rows()}
    assert [what for what, tests in named.items() if not tests] == []
    missing = [(path, name) for tests in named.values() for path, name in tests if name not in found_in(path)]
    assert missing == []


def test_each_fault_has_its_row() -> None:
    named = [fault for row in rows() for fault in re.findall(r"\*([^*]+)\*", row[1])]
    assert sorted(named) == sorted(FAULTS)
