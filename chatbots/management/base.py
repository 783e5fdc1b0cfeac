"""What all commands share: help that teaches, finding a chatbot, saying what an operation refused."""

from argparse import RawDescriptionHelpFormatter
from typing import Any, ClassVar

from django.core.exceptions import NON_FIELD_ERRORS, ValidationError
from django.core.management.base import BaseCommand, CommandError, CommandParser, DjangoHelpFormatter

from chatbots.models import Chatbot


class _HelpFormatter(DjangoHelpFormatter, RawDescriptionHelpFormatter):
    """Django's order, which puts a command's own options first, and our line breaks."""


class TeachingCommand(BaseCommand):
    """A command whose `--help` ends with examples that run, and its exit codes."""

    examples: ClassVar[str] = ""

    def create_parser(self, prog_name: str, subcommand: str, **kwargs: Any) -> CommandParser:
        return super().create_parser(
            prog_name, subcommand, epilog=self.examples, formatter_class=_HelpFormatter, **kwargs
        )


def find_chatbot(slug: str) -> Chatbot:
    """Return the chatbot. Raises CommandError with the slugs there are."""
    try:
        return Chatbot.objects.get(slug=slug)
    except Chatbot.DoesNotExist:
        known = ", ".join(Chatbot.objects.order_by("slug").values_list("slug", flat=True)[:20])
        advice = f"Known: {known}." if known else "Make one first, with create_chatbot."
        raise CommandError(f"There is no chatbot {slug!r}. {advice}") from None


def as_command_error(error: ValidationError) -> CommandError:
    """Return the messages of an operation's ValidationError, one a line, each with its field if it has one."""
    return CommandError(
        "\n".join(
            message if field == NON_FIELD_ERRORS else f"{field}: {message}"
            for field, messages in error.message_dict.items()
            for message in messages
        )
    )
