"""Runs commands in this process, and returns what an operator sees."""

import io
import json
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from django.apps import apps
from django.conf import settings
from django.core import management
from django.core.management import CommandError, call_command


class Ran(NamedTuple):
    code: int
    out: str
    err: str


def run(*words: str) -> Ran:
    """Run a command line. Raises CommandError where it refuses."""
    code, out, err = 0, io.StringIO(), io.StringIO()
    try:
        call_command(*words, stdout=out, stderr=err)
    except SystemExit as end:
        code = int(end.code or 0)
    return Ran(code, out.getvalue(), err.getvalue())


def report(*words: str, code: int = 0) -> dict[str, Any]:
    """Return the document that a command line prints with `--json`, and ends with this code."""
    ran = run(*words, "--json")
    assert ran.code == code, ran.out
    document: dict[str, Any] = json.loads(ran.out)
    return document


def refused(*words: str) -> CommandError:
    with pytest.raises(CommandError) as caught:
        run(*words)
    return caught.value


def ours() -> dict[str, str]:
    """Return each command of the project but those that replace one of Django's, and its app."""
    of_django = management.find_commands(management.__path__[0])
    return {
        file.stem: app.name
        for app in apps.get_app_configs()
        if Path(app.path).parent == settings.BASE_DIR
        for file in Path(app.path, "management", "commands").glob("[!_]*.py")
        if file.stem not in of_django
    }
