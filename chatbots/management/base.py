"""What the commands share: finding a chatbot, saying what an operation refused."""

import sys
from argparse import ArgumentTypeError
from pathlib import Path

from django.core.exceptions import NON_FIELD_ERRORS, ValidationError
from django.core.management.base import CommandError

from chatbots.models import Chatbot
from chatbots.operations import NewVariable


def find_chatbot(slug: str) -> Chatbot:
    """Return the chatbot. Raises CommandError with the slugs there are."""
    try:
        return Chatbot.objects.get(slug=slug)
    except Chatbot.DoesNotExist:
        known = ", ".join(Chatbot.objects.order_by("slug").values_list("slug", flat=True)[:20])
        advice = f"Known: {known}." if known else "Make one first, with create_chatbot."
        raise CommandError(f"There is no chatbot {slug!r}. {advice}") from None


def parse_variable(text: str) -> NewVariable:
    """Turn `custom:member_id` into a variable, for argparse."""
    category, colon, name = text.partition(":")
    if not colon:
        raise ArgumentTypeError(f"{text!r} is not CATEGORY:NAME, such as custom:member_id")
    return NewVariable(category, name)


def read_secret(path: str) -> str:
    """Return the secret in a file ("-": standard input), less one line end. Raises CommandError."""
    try:
        text = sys.stdin.read() if path == "-" else Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        raise CommandError(f"The secret cannot be read from {path}: is it a text file that you may read?") from None
    return text.removesuffix("\n").removesuffix("\r")


def as_command_error(error: ValidationError) -> CommandError:
    """Return the messages of an operation's ValidationError, one a line, each with its field if it has one."""
    return CommandError(
        "\n".join(
            message if field == NON_FIELD_ERRORS else f"{field}: {message}"
            for field, messages in error.message_dict.items()
            for message in messages
        )
    )
