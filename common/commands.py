"""Base classes of the `manage.py` commands: help with examples, a signal before each, refusals, and `--json`."""

import json
import sys
from argparse import RawDescriptionHelpFormatter
from collections.abc import Mapping
from typing import Any, ClassVar

from django.core.exceptions import NON_FIELD_ERRORS, ValidationError
from django.core.management.base import BaseCommand, CommandError, CommandParser, DjangoHelpFormatter
from django.core.serializers.json import DjangoJSONEncoder
from django.dispatch import Signal

# Sent with `name` before a command of ours does anything. A receiver refuses by raising CommandError.
before_command = Signal()

# The tag of system checks of settings and the database. Our commands run these alone: Django's own are about the
# code, and load all pages of the console.
INSTALLATION = "installation"

# The actor in the change log.
ACTOR = "command"


class _HelpFormatter(DjangoHelpFormatter, RawDescriptionHelpFormatter):
    """Django's order, with a command's own options first, and our line breaks."""


class TeachingCommand(BaseCommand):
    """A command whose `--help` ends with runnable examples and the exit codes.

    A ValidationError of an operation becomes a CommandError, one message per line. So do the errors in `refusals`,
    by their text, with these exit codes.
    """

    requires_system_checks: tuple[str, ...] = (INSTALLATION,)
    examples: ClassVar[str] = ""
    refusals: ClassVar[Mapping[type[Exception], int]] = {}

    def create_parser(self, prog_name: str, subcommand: str, **kwargs: Any) -> CommandParser:
        return super().create_parser(
            prog_name, subcommand, epilog=self.examples, formatter_class=_HelpFormatter, **kwargs
        )

    def execute(self, *args: Any, **options: Any) -> str | None:
        before_command.send(type(self), name=self.__module__.rpartition(".")[2])
        try:
            return super().execute(*args, **options)
        except ValidationError as error:
            refused = CommandError("\n".join(_messages(error)))
        except tuple(self.refusals) as error:
            code = next(code for kind, code in self.refusals.items() if isinstance(error, kind))
            refused = CommandError(str(error), returncode=code)
        raise refused

    def confirm(self, what: str, *, word: str) -> None:
        """Print what is about to happen. Raises CommandError unless the user at the terminal types the word."""
        if not sys.stdin.isatty():
            raise CommandError("This needs a confirmation at a terminal, or --yes. Nothing was changed.")
        self.stderr.write(what)
        self.stderr.write(f'Type "{word}" to go on: ', ending="")
        self.stderr.flush()
        if sys.stdin.readline().strip() != word:
            raise CommandError("Nothing was changed.")


class ReportingCommand(TeachingCommand):
    """A command that prints its result as text, or with `--json` as one document."""

    as_json = False

    def create_parser(self, prog_name: str, subcommand: str, **kwargs: Any) -> CommandParser:
        parser = super().create_parser(prog_name, subcommand, **kwargs)
        parser.add_argument("--json", action="store_true", help="Print one JSON document.")
        return parser

    def execute(self, *args: Any, **options: Any) -> str | None:
        self.as_json = options.get("json", False)
        return super().execute(*args, **options)

    def report(self, document: Any, *lines: str) -> None:
        """Print the document with `--json`, and the lines without."""
        for line in [json.dumps(document, cls=DjangoJSONEncoder)] if self.as_json else lines:
            self.stdout.write(line)

    def report_secret(self, document: Any, *lines: str, secret: str | None) -> None:
        """As `report`, and print the secret, if any, as the last line; the warning goes to stderr."""
        self.report(document, *lines)
        if secret and not self.as_json:
            self.stderr.write("Its secret follows. Store it now: it is not shown again.")
            self.stdout.write(secret)


def _messages(error: ValidationError) -> list[str]:
    by_field = error.message_dict if hasattr(error, "error_dict") else {NON_FIELD_ERRORS: error.messages}
    return [
        message if field == NON_FIELD_ERRORS else f"{field}: {message}"
        for field, messages in by_field.items()
        for message in messages
    ]
