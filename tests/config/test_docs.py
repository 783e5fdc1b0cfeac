"""The documents name every setting, command and code; their links, pictures, files and functions exist."""

import ast
import re
from collections.abc import Iterator
from datetime import date
from functools import cache
from pathlib import Path

import pytest
from django.conf import settings

from common.problems import CODES, read_help
from common.version import VERSION
from compliance.deadlines import DUE_SOON_WITHIN
from compliance.errors import FAILURES
from compliance.work.health_codes import Code
from config.openapi.document import PRE_REQUEST_SCRIPT
from conversations.placement import machines
from devdata import doc_tables
from scripts.screenshot_pages import IMAGES, PICTURES, THEMES
from tests.commands import ours
from tests.packages import SERVICE

SETTINGS = "docs/reference/settings.md"
COMMANDS = "docs/reference/commands.md"
HEALTH = "docs/reference/health.md"


def _read(path: str) -> str:
    return (Path(settings.BASE_DIR) / path).read_text(encoding="utf-8")


def _first_column(text: str) -> list[str]:
    return re.findall(r"^\| `([A-Za-z0-9_]+)` \|", text, re.MULTILINE)


def test_the_reference_names_each_setting_once() -> None:
    read = re.findall(r"env\.[a-z_]+\(\s*\"([A-Z0-9_]+)\"", _read("config/settings.py"))

    assert sorted(_first_column(_read(SETTINGS))) == sorted(set(read))


def test_the_reference_names_each_command_once() -> None:
    page, _ = _read(COMMANDS).split("\n## Commands of Django\n")
    assert sorted(_first_column(page)) == sorted(ours())


def test_each_code_a_request_can_fail_with_is_explained() -> None:
    sources = [
        path.read_text(encoding="utf-8")
        for folder in ("compliance", "conversations", "common")
        for path in (Path(settings.BASE_DIR) / folder).rglob("*.py")
    ]
    raised = re.findall(r"(?:StepFailed\(|StorageError\(|leases\.fail\(extract, )\s*\"([a-z_]+)\"", "".join(sources))
    written = re.findall(r"error_code = (?:CASE .*? THEN )?'([a-z_]+)'", "".join(sources))

    assert sorted(FAILURES) == sorted({*raised, *written, machines.SILENT})


def test_staff_find_who_fixes_each_code_a_request_can_fail_with() -> None:
    rows = re.findall(r"^\| (`.+?) \|", _read("docs/staff/failed-requests.md"), re.MULTILINE)

    assert sorted(re.findall(r"`(\w+)`", " ".join(rows))) == sorted(FAILURES)


def test_the_reference_explains_each_problem_of_health() -> None:
    assert sorted(_first_column(_read(HEALTH))) == sorted(Code)


@pytest.mark.parametrize("page", doc_tables.pages())
def test_tables_of_a_page_are_what_the_code_says(page: str) -> None:
    text = _read(page)

    assert "<!-- table: " in text
    assert doc_tables.with_tables(text) == text, "Run: manage.py doc_tables"


def test_each_error_code_is_explained() -> None:
    rows = re.findall(r"^\| ([0-9]{3}) \| `(\w+)` \|", _read("docs/reference/error-codes.md"), re.MULTILINE)

    assert rows == [(str(status), code) for code, (status, _) in CODES.items()]
    assert list(read_help()) == list(CODES)


def test_api_shows_the_script_for_postman_that_is_tested() -> None:
    assert f"```js\n{PRE_REQUEST_SCRIPT}```" in _read("docs/clients/sign-a-call.md")


@pytest.mark.parametrize(
    "name",
    [
        "docs/staff/monitoring.md",
        "docs/operators/mails.md",
        "docs/reference/metrics.md",
        "deploy/prometheus/alerts.yml",
        "deploy/grafana/board.json",
    ],
)
def test_due_soon_is_as_many_days_as_in_the_code(name: str) -> None:
    found = re.findall(r"due\s+within\s+(\d+)\s+days", _read(name), re.IGNORECASE)
    assert set(found) == {str(DUE_SOON_WITHIN.days)}


HEADINGS = re.findall(r"^## (.+)$", (Path(settings.BASE_DIR) / "CHANGELOG.md").read_text(), re.MULTILINE)


def test_the_newest_release_is_the_version_of_the_project() -> None:
    unreleased, newest, *_ = HEADINGS

    assert unreleased == "Unreleased"
    version, _, released = newest.partition(" - ")
    assert version == VERSION
    assert date.fromisoformat(released)


ROOT = Path(settings.BASE_DIR)
DOCUMENTS = sorted(path.relative_to(ROOT) for path in [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])

_LINK = re.compile(r"\]\(([^)\s]+)\)")
_FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)


def anchors(document: Path) -> set[str]:
    """Return the anchors of a document's headings, as forges make them."""
    headings = re.findall(r"^#+ (.+)$", _FENCE.sub("", document.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def broken_links(document: Path) -> Iterator[str]:
    for target in _LINK.findall(_FENCE.sub("", (ROOT / document).read_text())):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        leads_to = (ROOT / document.parent / path).resolve() if path else ROOT / document
        if not leads_to.exists() or (anchor and leads_to.suffix == ".md" and anchor not in anchors(leads_to)):
            yield target


@pytest.mark.parametrize("document", DOCUMENTS, ids=str)
def test_each_link_of_a_document_leads_somewhere(document: Path) -> None:
    assert list(broken_links(document)) == []


def test_the_list_of_decisions_has_each_of_them() -> None:
    listed = re.findall(r"^- \[(\d{4})\]\((\1-.+?)\): .+$", (ROOT / "docs/adr/README.md").read_text(), re.MULTILINE)

    assert sorted(name for _, name in listed) == sorted(path.name for path in (ROOT / "docs/adr").glob("[0-9]*.md"))


STAFF_PAGES = "".join(path.read_text() for path in sorted(ROOT.glob("docs/staff/*.md")))
FILES = {f"{picture.name}-{theme}.webp" for picture in PICTURES for theme in THEMES}


def test_there_is_a_picture_of_each_page_in_each_theme() -> None:
    assert {path.name for path in IMAGES.iterdir()} == FILES


def test_a_page_shows_each_picture_with_an_alternative_text() -> None:
    assert set(re.findall(r"images/([\w-]+\.webp)", STAFF_PAGES)) == FILES
    texts = re.findall(r'<img alt="([^"]*)"', STAFF_PAGES)
    assert len(texts) == len(FILES) // 2, (
        "each shows the light one, or the dark one where the reader's system is dark"
    )
    assert all(texts)


# What is printed from code, and the release notes, may be as long as they are.
PAGES = [path for path in DOCUMENTS if path.parts[:2] != ("docs", "reference") and path.name != "CHANGELOG.md"]


@pytest.mark.parametrize("document", PAGES, ids=str)
def test_a_page_is_short(document: Path) -> None:
    most = 1_300 if document.name == "README.md" and len(document.parts) == 1 else 1_800
    assert len((ROOT / document).read_text(encoding="utf-8").split()) <= most


# --- For developers --------------------------------------------------------------------------------------


PAGE = (ROOT / "docs/explanation/architecture.md").read_text()
FOR_DEVELOPERS = ("docs/explanation/architecture.md", "docs/explanation/testing.md", "README.md", "CONTRIBUTING.md")

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


@pytest.mark.parametrize("document", FOR_DEVELOPERS)
def test_each_path_that_a_document_names_exists(document: str) -> None:
    # Some are below the folder that the sentence is about.
    roots = [ROOT, *(ROOT / folder for folder in ("common", "compliance", "config", "conversations", "templates"))]
    made_at_run_time = {"var/", "var/release/", "erasure_ledger/", ".hypothesis/"}

    named = {path for path in _PATH.findall((ROOT / document).read_text()) if not path.startswith("api/")}
    assert {path for path in named - made_at_run_time if not any((root / path).exists() for root in roots)} == set()


@pytest.mark.parametrize("document", FOR_DEVELOPERS)
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
