from typing import Any

from django.core.exceptions import ValidationError
from django.core.management.base import CommandParser

from chatbots.management.base import as_command_error
from chatbots.operations import revoke_api_key
from common.commands import TeachingCommand


class Command(TeachingCommand):
    help = """End a key for good: the next call with it is refused.

Make the new key first (create_api_key), let the client company change over, then revoke the old one.
"""
    examples = """\
examples:
  manage.py revoke_api_key 3f9a1c0d52be

exit codes: 0 ended, 1 there is no such key, or it was ended before
"""

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("prefix", help="of the key, as create_api_key showed it and the console lists it")

    def handle(self, *_args: Any, **options: Any) -> None:
        try:
            api_key = revoke_api_key(prefix=options["prefix"], actor="command")
        except ValidationError as error:
            raise as_command_error(error) from None
        self.stdout.write(f"Revoked the key {api_key.prefix} ({api_key.label}).")
