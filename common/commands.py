"""What all commands of `manage.py` share: help that teaches."""

from argparse import RawDescriptionHelpFormatter
from typing import Any, ClassVar

from django.core.management.base import BaseCommand, CommandParser, DjangoHelpFormatter


class _HelpFormatter(DjangoHelpFormatter, RawDescriptionHelpFormatter):
    """Django's order, which puts a command's own options first, and our line breaks."""


class TeachingCommand(BaseCommand):
    """A command whose `--help` ends with examples that run, and its exit codes."""

    examples: ClassVar[str] = ""

    def create_parser(self, prog_name: str, subcommand: str, **kwargs: Any) -> CommandParser:
        return super().create_parser(
            prog_name, subcommand, epilog=self.examples, formatter_class=_HelpFormatter, **kwargs
        )
