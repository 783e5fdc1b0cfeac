"""Base class of the `manage.py` commands: help with examples, a signal before each, and the errors of operations."""

import sys
from argparse import RawDescriptionHelpFormatter
from typing import Any, ClassVar

from django.core.exceptions import NON_FIELD_ERRORS, ValidationError
from django.core.management.base import BaseCommand, CommandError, CommandParser, DjangoHelpFormatter
from django.dispatch import Signal

# Sent with `name` before a command of ours does anything. A receiver refuses by raising CommandError.
before_command = Signal()


class _HelpFormatter(DjangoHelpFormatter, RawDescriptionHelpFormatter):
    """Django's order, with a command's own options first, and our line breaks."""


class TeachingCommand(BaseCommand):
    """A command whose `--help` ends with runnable examples and the exit codes.

    A ValidationError of an operation becomes a CommandError, one message per line.
    """

    examples: ClassVar[str] = ""

    def create_parser(self, prog_name: str, subcommand: str, **kwargs: Any) -> CommandParser:
        return super().create_parser(
            prog_name, subcommand, epilog=self.examples, formatter_class=_HelpFormatter, **kwargs
        )

    def execute(self, *args: Any, **options: Any) -> str | None:
        before_command.send(type(self), name=self.__module__.rpartition(".")[2])
        try:
            return super().execute(*args, **options)
        except ValidationError as error:
            by_field = error.message_dict if hasattr(error, "error_dict") else {NON_FIELD_ERRORS: error.messages}
            lines = [
                message if field == NON_FIELD_ERRORS else f"{field}: {message}"
                for field, messages in by_field.items()
                for message in messages
            ]
        raise CommandError("\n".join(lines))

    def confirm(self, what: str, *, word: str) -> None:
        """Say what is about to happen, and return if whoever is at the terminal types the word; else CommandError."""
        if not sys.stdin.isatty():
            raise CommandError("Nobody can be asked here: say --yes. Nothing was changed.")
        self.stderr.write(what)
        self.stderr.write(f'Type "{word}" to go on: ', ending="")
        self.stderr.flush()
        if sys.stdin.readline().strip() != word:
            raise CommandError("Nothing was changed.")
