import json
from typing import Any

from django.core.exceptions import ValidationError
from django.core.management.base import CommandParser

from chatbots.management.base import as_command_error, find_chatbot
from chatbots.management.buckets import shown_outcome, tell_outcome
from chatbots.operations.buckets import check_bucket
from common.commands import TeachingCommand


class Command(TeachingCommand):
    help = """Try each call that the service makes to a chatbot's bucket, and tell which permission is missing.

It writes a small object of a random name, reads, lists and removes it, also in parts and in every version, and
remembers the outcome. Nothing else in the bucket is touched.
"""
    examples = """\
examples:
  manage.py check_bucket acme
  manage.py check_bucket acme --json

What to grant as a whole: manage.py bucket_policy acme

exit codes: 0 all went well, 1 refused, 2 the command line is wrong, 3 something is missing
"""

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("slug", help="of the chatbot")
        parser.add_argument("--json", action="store_true", help="print one JSON document")

    def handle(self, *_args: Any, **options: Any) -> None:
        try:
            outcome = check_bucket(chatbot=find_chatbot(options["slug"]))
        except ValidationError as error:
            raise as_command_error(error) from None
        if options["json"]:
            self.stdout.write(json.dumps(shown_outcome(outcome)))
        else:
            tell_outcome(outcome, self.stdout)
        if not outcome.is_ok:
            raise SystemExit(3)
