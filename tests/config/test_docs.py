"""The pages for people name what the code has: settings, commands and codes cannot be added in silence."""

import re
from pathlib import Path

from django.conf import settings
from django.core.management import get_commands

from common.problem_help import HELP
from common.problems import CODES
from compliance.failure_docs import FAILURES
from compliance.work import health
from config.openapi.document import PRE_REQUEST_SCRIPT

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


def test_operating_says_what_to_do_for_each_code_a_request_can_fail_with() -> None:
    sources = [
        path.read_text(encoding="utf-8")
        for folder in ("compliance", "conversations", "common")
        for path in (Path(settings.BASE_DIR) / folder).rglob("*.py")
    ]
    raised = re.findall(r"(?:StepFailed|StorageError|ExtractFailed)\(\s*\"([a-z_]+)\"", "".join(sources))
    written = re.findall(r"error_code = (?:CASE .*? THEN )?'([a-z_]+)'", "".join(sources))

    assert sorted(_first_column(OPERATING, "Failed requests")) == sorted({*raised, *written})


def test_operating_says_what_to_do_for_each_problem_of_health() -> None:
    assert sorted(_first_column(OPERATING, "What to watch")) == sorted(health.Code)


def test_operating_explains_each_failure_as_the_console_does() -> None:
    """Whoever adds a code, or changes its words, does so in docs/operating.md and in compliance/failure_docs.py."""
    table = _section(OPERATING, "Failed requests")
    rows = re.findall(r"^\| `([a-z_]+)` \| (.+?) \| (.+?) \|$", table, re.MULTILINE)

    assert {code: (meaning, remedy) for code, meaning, remedy in rows} == dict(FAILURES)


def test_api_names_each_error_code_with_its_status() -> None:
    rows = re.findall(r"^\| ([0-9]{3}) \| `([a-z_]+)` \|", _section(API, "Errors"), re.MULTILINE)

    assert sorted(rows) == sorted((str(status), code) for code, (status, _) in CODES.items())


def test_api_explains_each_error_code_as_the_page_of_errors_does() -> None:
    """Whoever adds a code, or changes its words, does so in docs/api.md and in common/problem_help.py."""
    rows = re.findall(r"^\| [0-9]{3} \| `([a-z_]+)` \| (.+?) \| (.+?) \|$", _section(API, "Errors"), re.MULTILINE)

    assert {code: (meaning, remedy) for code, meaning, remedy in rows} == dict(HELP)


def test_api_shows_the_script_for_postman_that_is_tested() -> None:
    assert f"```js\n{PRE_REQUEST_SCRIPT}```" in _read(API)
