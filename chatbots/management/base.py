"""Helpers of the commands for their arguments."""

import sys
from argparse import ArgumentTypeError
from pathlib import Path

from django.core.management.base import CommandError

from chatbots.models import Chatbot
from chatbots.operations import NewVariable


def find_chatbot(slug: str) -> Chatbot:
    """Return the chatbot. Raises CommandError that lists the known slugs."""
    try:
        return Chatbot.objects.get(slug=slug)
    except Chatbot.DoesNotExist:
        known = ", ".join(Chatbot.objects.order_by("slug").values_list("slug", flat=True)[:20])
        advice = f"Known: {known}." if known else "Create one first, with create_chatbot."
        raise CommandError(f"There is no chatbot {slug!r}. {advice}") from None


def parse_variable(text: str) -> NewVariable:
    """Parse `custom:member_id`, for argparse."""
    category, colon, name = text.partition(":")
    if not colon:
        raise ArgumentTypeError(f"{text!r} is not CATEGORY:NAME, such as custom:member_id")
    return NewVariable(category, name)


def read_secret(path: str) -> str:
    """Return the secret in a file ("-": standard input) without its final newline. Raises CommandError."""
    try:
        text = sys.stdin.read() if path == "-" else Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        raise CommandError(f"Cannot read the secret from {path}: is it a text file that you may read?") from None
    return text.removesuffix("\n").removesuffix("\r")
