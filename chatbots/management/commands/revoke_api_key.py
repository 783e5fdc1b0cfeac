from argparse import RawDescriptionHelpFormatter
from typing import Any

from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandParser

from chatbots.management.messages import as_command_error
from chatbots.operations import revoke_api_key


class Command(BaseCommand):
    help = """End a key for good: the next call with it is refused. For example:

  manage.py revoke_api_key 3f9a1c0d52be

Make the new key first (create_api_key), let the client company change over, then revoke the old one.
"""

    def create_parser(self, prog_name: str, subcommand: str, **kwargs: Any) -> CommandParser:
        return super().create_parser(prog_name, subcommand, formatter_class=RawDescriptionHelpFormatter, **kwargs)

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("prefix", help="of the key, as create_api_key showed it and the admin lists it")

    def handle(self, *_args: Any, **options: Any) -> None:
        try:
            api_key = revoke_api_key(prefix=options["prefix"], actor="command")
        except ValidationError as error:
            raise as_command_error(error) from None
        self.stdout.write(f"Revoked the key {api_key.prefix} ({api_key.label}).")
