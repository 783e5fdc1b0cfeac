"""Command blocks of the operators' pages: each runs here or in another test, or its page says why not."""

import os
import re
import shlex
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple
from uuid import uuid4

import pytest
from django.conf import settings
from django.core.management import get_commands, load_command_class
from django.db import connection

from tests import commands, factories

ROOT = Path(settings.BASE_DIR)
PAGES = sorted(path for folder in ("operators", "start") for path in (ROOT / "docs" / folder).rglob("*.md"))
_BLOCK = re.compile(r"^( *)```(sh|sql)\n(.*?)^\1```\n(?:\s*<!-- not run: (.+?) -->)?", re.MULTILINE | re.DOTALL)
# manage.py itself, in a container, by the script for systemd, or by the functions of the quickstart.
_COMMAND = re.compile(
    r"^(?:\S+=\S+ )*(?:\.venv/bin/python manage\.py|compliance (?:web|worker|owner)|manage|check"
    r"|docker compose .*?python manage\.py|TOKEN=\$\(manage) "
)
_ELSEWHERE = {
    "scrub-freed-pages.md": "tests/functional/test_scrubbing.py",
    "promtool test rules": "tests/config/test_deploy.py",
}
# Exit codes that say how it is with the service, and not that the command is wrong.
_FOUND = {"health": {0, 1}, "set_retention": {3}}


class Block(NamedTuple):
    page: str
    language: str
    text: str
    reason: str

    @property
    def runs_elsewhere(self) -> bool:
        return any(name == self.page or self.text.startswith(name) for name in _ELSEWHERE)

    def lines(self) -> Iterator[list[str]]:
        """Return the words of each command of manage.py in it, without what reads its output."""
        for line in self.text.replace("\\\n", " ").splitlines():
            for part in re.split(r" (?:&&|\|\|?|2>&1|;) ", line.strip()):
                if found := _COMMAND.match(part):
                    yield _words(part[found.end() :])


def _words(command: str) -> list[str]:
    given = re.sub(r"<id>|\$ID|\bREQUEST\b", str(uuid4()), command)
    return shlex.split(re.sub(r"<\w+>|\$\w+", "given", given).rstrip(")"), comments=True)


@cache
def blocks() -> list[Block]:
    return [
        Block(page.name, language, re.sub(f"^{indent}", "", text, flags=re.MULTILINE), reason)
        for page in PAGES
        for indent, language, text, reason in _BLOCK.findall(page.read_text())
    ]


RUN = [block for block in blocks() if not block.reason and not block.runs_elsewhere]


def test_a_page_has_no_other_blocks_of_commands() -> None:
    for page in PAGES:
        assert page.read_text().count("```sh\n") + page.read_text().count("```sql\n") == len(
            _BLOCK.findall(page.read_text())
        )


def test_commands_of_all_blocks_exist_with_these_options() -> None:
    apps = get_commands()
    read = 0
    for block in blocks():
        for name, *words in block.lines():
            parser = load_command_class(apps[name], name).create_parser("manage.py", name)
            # Raises CommandError.
            parser.parse_args(words)
            read += 1

    assert read > 60


@pytest.mark.parametrize("block", RUN, ids=lambda block: f"{block.page}: {block.text[:30]}")
def test_a_block_without_a_marker_runs(block: Block, db: None, tmp_path: Path) -> None:
    lines = list(block.lines())
    if block.page != "api-keys.md" or "create_chatbot" not in block.text:
        factories.ready_chatbot(slug="acme")
    if block.language == "sql":
        with connection.cursor() as cursor:
            cursor.execute(block.text)
    elif lines:
        for words in lines:
            assert commands.run(*words).code in _FOUND.get(words[0], {0}), words
    else:
        (tmp_path / ".venv").symlink_to(ROOT / ".venv")
        (tmp_path / ".env.example").write_text((ROOT / ".env.example").read_text())
        argv = ["bash", "-euo", "pipefail", "-c", block.text]
        subprocess.run(argv, cwd=tmp_path, env={"PATH": os.environ["PATH"]}, check=True)


def test_the_quickstart_fills_in_every_variable(tmp_path: Path) -> None:
    [block] = [block for block in RUN if block.page == "production.md"]
    (tmp_path / ".env.example").write_text((ROOT / ".env.example").read_text())
    subprocess.run(["bash", "-euc", block.text], cwd=tmp_path, env={"PATH": os.environ["PATH"]}, check=True)
    made = tmp_path / ".env"

    values = dict(re.findall(r"^([A-Z0-9_]+)=(.*)$", made.read_text(), re.MULTILINE))
    assert all(values.values())
    assert made.stat().st_mode & 0o077 == 0
    assert re.fullmatch(r"[\w-]{64}", values["SECRET_KEY"])
    keys = [values["ENCRYPTION_KEYS"], values["DIGEST_KEY"]]
    assert all(re.fullmatch(r"k1:[\w-]{43}=", key) for key in keys)
    assert keys[0] != keys[1]
    assert len({value for name, value in values.items() if name.endswith("_PASSWORD")}) == 4
