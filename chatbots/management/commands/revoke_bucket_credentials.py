from typing import Any

from django.core.management.base import CommandParser

from chatbots.management.base import credential_as_json, find_chatbot
from chatbots.operations.credentials import revoke_bucket_credential
from common.commands import ACTOR, ReportingCommand


class Command(ReportingCommand):
    help = """Revoke a client's credentials for the hosted bucket for good.

Removes the IAM user with all its keys. If that fails, nothing is lost: run it again. For keys that were created by
hand, and where there is no IAM, remove the user in the storage first, then run this with --removed-by-hand.
"""
    examples = """\
examples:
  manage.py revoke_bucket_credentials acme AKIAEXAMPLE
  manage.py revoke_bucket_credentials acme AKIAEXAMPLE --removed-by-hand

bucket_credentials lists them. One without a key was interrupted: name its IAM user instead.

exit codes: 0 revoked, 1 refused, or not all was removed, 2 wrong command line
"""

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("slug", help="the chatbot's slug")
        parser.add_argument("name", help="the id of the access key, or the name of the IAM user")
        parser.add_argument(
            "--removed-by-hand", action="store_true", help="mark them only: the user is removed in the storage"
        )

    def handle(self, *_args: Any, **options: Any) -> None:
        chatbot = find_chatbot(options["slug"])
        credential = revoke_bucket_credential(
            chatbot=chatbot, name=options["name"], removed_by_hand=options["removed_by_hand"], actor=ACTOR
        )
        self.report(credential_as_json(credential), f"Revoked {options['name']} of {chatbot.slug}.")
