from typing import Any

from django.core.management.base import CommandParser

from chatbots.operations.keys import revoke_api_key
from common.commands import ACTOR, ReportingCommand


class Command(ReportingCommand):
    help = """Revoke a key for good: the next call with it, or the next identity token of it, is refused.

Create the new key first (create_api_key), let the client company switch, then revoke the old one.
"""
    examples = """\
examples:
  manage.py revoke_api_key 3f9a1c0d52be

exit codes: 0 revoked, 1 no such key, or it was already revoked
"""

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("prefix", help="the key's prefix, as create_api_key printed it and the console lists it")

    def handle(self, *_args: Any, **options: Any) -> None:
        api_key = revoke_api_key(prefix=options["prefix"], actor=ACTOR)
        document = {"prefix": api_key.prefix, "revoked_at": api_key.revoked_at}
        self.report(document, f"Revoked the key {api_key.prefix} ({api_key.label}).")
