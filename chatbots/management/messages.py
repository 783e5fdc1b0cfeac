"""Say on the command line what an operation refused."""

from django.core.exceptions import ValidationError
from django.core.management.base import CommandError


def as_command_error(error: ValidationError) -> CommandError:
    """Return the messages of an operation's ValidationError, one a line, each with its field."""
    return CommandError(
        "\n".join(f"{field}: {message}" for field, messages in error.message_dict.items() for message in messages)
    )
