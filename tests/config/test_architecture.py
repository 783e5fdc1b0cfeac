"""The documents for developers name existing files, functions and targets, and the paths stay short."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest
from django.conf import settings

from tests.packages import SERVICE

ROOT = Path(settings.BASE_DIR)
PAGE = (ROOT / "docs/explanation/architecture.md").read_text()
DOCUMENTS = ("docs/explanation/architecture.md", "docs/explanation/testing.md", "README.md", "CONTRIBUTING.md")

_PATH = re.compile(r"`((?:[\w.-]+/)+[\w.-]*)`")
# A file and a name in it: `compliance/worker.py` `drain`.
_NAMES = re.compile(r"`([\w/]+\.py)` `([\w.]+)`")


def section(title: str) -> str:
    return PAGE.split(f"\n## {title}\n", 1)[1].split("\n## ", 1)[0]


def steps(title: str) -> list[str]:
    """Return the files of a path through the code, in order."""
    return re.findall(r"^\d+\. `([\w/.]+)`", section(title), re.MULTILINE)


@cache
def names_in(file: str) -> set[str]:
    """Return the names that a module defines: functions, classes, their members, and assignments."""
    names: set[str] = set()

    def add(body: list[ast.stmt], prefix: str) -> None:
        for node in body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                names.add(prefix + node.name)
            if isinstance(node, ast.ClassDef):
                add(node.body, f"{prefix}{node.name}.")
            targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
            names.update(prefix + target.id for target in targets if isinstance(target, ast.Name))

    add(ast.parse((ROOT / file).read_text()).body, "")
    return names


@pytest.mark.parametrize("document", DOCUMENTS)
def test_each_path_that_a_document_names_exists(document: str) -> None:
    # Some are below the folder that the sentence is about.
    roots = [ROOT, *(ROOT / folder for folder in ("common", "compliance", "config", "conversations", "templates"))]
    made_at_run_time = {"var/", "var/release/", "erasure_ledger/", ".hypothesis/"}

    named = {path for path in _PATH.findall((ROOT / document).read_text()) if not path.startswith("api/")}
    assert {path for path in named - made_at_run_time if not any((root / path).exists() for root in roots)} == set()


@pytest.mark.parametrize("document", DOCUMENTS)
def test_each_target_and_test_that_a_document_names_exists(document: str) -> None:
    text = (ROOT / document).read_text()
    targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)

    assert set(re.findall(r"(?:^|`)make ([a-z][\w-]*)", text, re.MULTILINE)) <= set(targets)
    named = set(re.findall(r"`(test_[\w*]+\.py)`", text))
    assert {name for name in named if not any((ROOT / "tests").rglob(name))} == set()


def test_each_function_on_the_page_is_in_the_file_that_it_is_named_with() -> None:
    named = _NAMES.findall(PAGE)

    assert len(named) > 35
    assert [f"{file}: {name}" for file, name in named if name not in names_in(file)] == []


@pytest.mark.parametrize(
    ("title", "most"),
    [
        ("A deletion, from POST to DELETE", 14),
        ("An export, from POST to the file", 16),
        ("A list of the console", 6),
        ("The conversations log of the console", 5),
    ],
)
def test_each_path_through_the_code_has_few_files(title: str, most: int) -> None:
    files = steps(title)

    assert 4 < len(files) <= most
    assert len(set(files)) == len(files)


def test_the_table_of_packages_has_each_of_them() -> None:
    listed = re.findall(r"^\| `(\w+)/` \|", section("Packages"), re.MULTILINE)
    assert sorted(listed) == sorted(SERVICE)


def test_the_page_names_the_place_of_each_of_eight_additions() -> None:
    assert len(re.findall(r"^\| a", section("Where would I add ..."), re.MULTILINE)) == 8
