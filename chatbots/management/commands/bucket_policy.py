import json
from typing import Any

from django.core.management.base import CommandParser

from chatbots.buckets.locations import access_policy, trust_policy
from chatbots.management.base import find_chatbot
from common.commands import TeachingCommand


class Command(TeachingCommand):
    help = """Print the minimal IAM policy for a chatbot's files, as JSON.

For a client's bucket: what the client grants to our access key or role; with --trust, who may assume the role. For
the hosted bucket: what the operator grants to this client's own credentials, to read its files.
"""
    examples = """\
examples:
  manage.py bucket_policy acme
  manage.py bucket_policy acme --trust

exit codes: 0 printed, 1 refused, 2 wrong command line
"""

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("slug", help="the chatbot's slug")
        parser.add_argument("--trust", action="store_true", help="print the trust policy of the role instead")

    def handle(self, *_args: Any, **options: Any) -> None:
        policy = trust_policy if options["trust"] else access_policy
        printed = policy(chatbot=find_chatbot(options["slug"]))
        self.stdout.write(json.dumps(printed, indent=2))
