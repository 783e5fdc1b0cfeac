"""The documents name every setting, command and code; their links and pictures lead somewhere."""

import re
from collections.abc import Iterator
from datetime import date
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
