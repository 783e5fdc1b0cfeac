from typing import Any

from django.core.management.base import CommandParser

from chatbots.management.base import find_chatbot, result_as_json, result_lines
from chatbots.operations.buckets import check_bucket, check_hosted_bucket
from common.commands import ReportingCommand


class Command(ReportingCommand):
    help = """Try each call that the service makes to a chatbot's bucket or the hosted one; list missing permissions.

It writes a small object with a random name, reads, lists and removes it, also in parts and in every version, and
stores the result. Nothing else in the bucket is touched.
"""
    examples = """\
examples:
  manage.py check_bucket acme
  manage.py check_bucket acme --json
  manage.py check_bucket --hosted

For all permissions to grant: manage.py bucket_policy acme

exit codes: 0 all calls succeeded, 1 refused, 2 wrong command line, 3 a call failed
"""

    def add_arguments(self, parser: CommandParser) -> None:
        which = parser.add_mutually_exclusive_group(required=True)
        which.add_argument("slug", nargs="?", help="the chatbot's slug")
        which.add_argument("--hosted", action="store_true", help="check the whole hosted bucket (S3_BUCKET)")

    def handle(self, *_args: Any, **options: Any) -> None:
        is_hosted = options["hosted"]
        result = check_hosted_bucket() if is_hosted else check_bucket(chatbot=find_chatbot(options["slug"]))
        self.report(result_as_json(result), *result_lines(result))
        if not result.is_ok:
            raise SystemExit(3)
