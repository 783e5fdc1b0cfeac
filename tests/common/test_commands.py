"""What all commands share: help with examples that are right, and with the exit codes."""

import re
import shlex
from collections.abc import Iterator

import pytest
from django.core.management import load_command_class

from tests.commands import ours

OURS = ours()


def help_of(name: str) -> str:
    return load_command_class(OURS[name], name).create_parser("manage.py", name).format_help()


def examples(name: str) -> Iterator[list[str]]:
    """Yield the words of each command line in the help: what follows `manage.py`, without pipes and remarks."""
    for line in re.sub(r"\\\n\s+", "", help_of(name)).splitlines():
        before, command, words = line.partition("manage.py ")
        if command and before.startswith("  "):
            yield shlex.split(re.split(r"\s[|<>]|\s{2,}", words)[0])


@pytest.mark.parametrize("name", OURS)
def test_the_help_has_examples_that_are_right_and_the_exit_codes(name: str) -> None:
    found = list(examples(name))

    assert name in {words[0] for words in found}
    for command, *arguments in found:
        load_command_class(OURS[command], command).create_parser("manage.py", command).parse_args(arguments)
    # A cluster runs until it is stopped.
    assert "exit codes:" in help_of(name) or name == "qcluster"
