"""The docs name every setting, command and code, so that none is added undocumented."""

import re
from pathlib import Path

import pytest
from django.conf import settings
from django.core.management import get_commands

from common.problems import CODES, HELP
from compliance.deadlines import DUE_SOON_WITHIN
from compliance.failure_docs import FAILURES
from compliance.work.health_codes import Code
from config.openapi.document import PRE_REQUEST_SCRIPT
from conversations import machines
from devdata import doc_tables

OPERATING = "docs/operating.md"
API = "docs/api.md"

_OURS = ("accounts", "chatbots", "conversations", "compliance", "devdata")


def _read(path: str) -> str:
    return (Path(settings.BASE_DIR) / path).read_text(encoding="utf-8")


def _section(path: str, title: str) -> str:
    """Return the text between a heading of the second level and the next one."""
    return _read(path).split(f"\n## {title}\n", 1)[1].split("\n## ", 1)[0]


def _first_column(path: str, title: str) -> list[str]:
    return re.findall(r"^\| `([A-Za-z0-9_]+)` \|", _section(path, title), re.MULTILINE)


def test_operating_names_each_setting_once() -> None:
    read = re.findall(r"env\.[a-z_]+\(\s*\"([A-Z0-9_]+)\"", _read("config/settings.py"))

    assert sorted(_first_column(OPERATING, "Settings")) == sorted(set(read))


def test_operating_names_each_command_once() -> None:
    commands = [name for name, app in get_commands().items() if app in _OURS]

    assert sorted(_first_column(OPERATING, "Commands")) == sorted(commands)


def test_each_code_a_request_can_fail_with_is_explained() -> None:
    sources = [
        path.read_text(encoding="utf-8")
        for folder in ("compliance", "conversations", "common")
        for path in (Path(settings.BASE_DIR) / folder).rglob("*.py")
    ]
    raised = re.findall(r"(?:StepFailed|StorageError|ExtractFailed)\(\s*\"([a-z_]+)\"", "".join(sources))
    written = re.findall(r"error_code = (?:CASE .*? THEN )?'([a-z_]+)'", "".join(sources))

    assert sorted(FAILURES) == sorted({*raised, *written, machines.SILENT})


def test_operating_explains_each_problem_of_health() -> None:
    assert sorted(_first_column(OPERATING, "What to watch")) == sorted(Code)


@pytest.mark.parametrize("page", doc_tables.PAGES)
def test_tables_of_a_page_are_what_the_code_says(page: str) -> None:
    text = _read(page)

    assert "<!-- table: " in text
    assert doc_tables.with_tables(text) == text, "Run: manage.py doc_tables"


def test_each_error_code_is_explained() -> None:
    assert sorted(HELP) == sorted(CODES)


def test_api_shows_the_script_for_postman_that_is_tested() -> None:
    assert f"```js\n{PRE_REQUEST_SCRIPT}```" in _read(API)


@pytest.mark.parametrize(
    "name", ["docs/console.md", "docs/operating.md", "deploy/prometheus/alerts.yml", "deploy/grafana/board.json"]
)
def test_due_soon_is_as_many_days_as_in_the_code(name: str) -> None:
    found = re.findall(r"due\s+within\s+(\d+)\s+days", _read(name), re.IGNORECASE)
    assert set(found) == {str(DUE_SOON_WITHIN.days)}
