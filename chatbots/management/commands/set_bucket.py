import getpass
import json
import sys
from typing import Any

from django.core.exceptions import ValidationError
from django.core.management.base import CommandError, CommandParser

from chatbots.management.base import as_command_error, find_chatbot, read_secret
from chatbots.management.buckets import shown_bucket, shown_outcome, tell_outcome
from chatbots.models import Bucket
from chatbots.operations.buckets import ClientBucket, check_bucket, set_bucket
from common.commands import TeachingCommand

_CLIENT_OPTIONS = ("bucket", "region", "prefix", "endpoint", "sse", "kms_key_id", "access_key_id", "role_arn")


class Command(TeachingCommand):
    help = """Set where a chatbot's exports and extracts go: the operator's bucket, or the client's own.

The service reaches a client's bucket with an access key of the client's, whose secret is kept encrypted, or by a
role that the client lets it assume. At the end each call that it will make is tried, as check_bucket does. Files
that were written before stay where they are.
"""
    examples = """\
examples:
  manage.py set_bucket acme --hosted
  manage.py set_bucket acme --bucket acme-files --region eu-west-3 --prefix exports/ \\
      --access-key-id AKIAEXAMPLE --secret-file secret.txt
  manage.py set_bucket acme --bucket acme-files --region eu-west-3 --sse aws:kms --kms-key-id alias/files \\
      --role-arn arn:aws:iam::123456789012:role/exports --no-check

For a role: set it with --no-check, give the client what bucket_policy prints, then check_bucket. Without
--secret-file the secret is asked for, or read from standard input; it never stands on the command line.

exit codes: 0 set, and found to work if checked, 1 refused, 2 the command line is wrong, 3 set but does not work
"""

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("slug", help="of the chatbot")
        which = parser.add_mutually_exclusive_group(required=True)
        which.add_argument("--hosted", action="store_true", help="the operator's bucket (S3_BUCKET)")
        which.add_argument("--bucket", default="", metavar="NAME", help="the client's own bucket")
        parser.add_argument("--region", default="", help="of the client's bucket")
        parser.add_argument("--prefix", default="", help="the folder for all files; default: none")
        parser.add_argument("--endpoint", default="", metavar="URL", help="of a store that is not AWS")
        parser.add_argument(
            "--sse", default="", choices=[value for value in Bucket.Sse.values if value], help="encryption to ask for"
        )
        parser.add_argument("--kms-key-id", default="", metavar="KEY", help="with --sse aws:kms: id, alias or ARN")
        parser.add_argument("--access-key-id", default="", metavar="ID", help="an access key of the client's")
        parser.add_argument("--secret-file", metavar="FILE", help='its secret ("-": standard input)')
        parser.add_argument("--keep-secret", action="store_true", help="the secret stored for this key stays")
        parser.add_argument("--role-arn", default="", metavar="ARN", help="instead of a key: a role to assume")
        parser.add_argument("--no-check", action="store_true", help="do not try the bucket")
        parser.add_argument("--json", action="store_true", help="print one JSON document")

    def handle(self, *_args: Any, **options: Any) -> None:
        chatbot = find_chatbot(options["slug"])
        try:
            bucket = set_bucket(chatbot=chatbot, client=_client(options), actor="command")
            outcome = None if options["no_check"] else check_bucket(chatbot=chatbot)
        except ValidationError as error:
            raise as_command_error(error) from None
        if options["json"]:
            check = outcome and shown_outcome(outcome)
            self.stdout.write(json.dumps({**shown_bucket(bucket), "check": check}))
        else:
            self.stdout.write(f"The files of {chatbot.slug} go to the {bucket.hosting} bucket from now on.")
            if bucket.role_arn:
                self.stdout.write(f"The role's external id: {bucket.external_id}")
            if outcome:
                tell_outcome(outcome, self.stdout)
        if outcome and not outcome.is_ok:
            raise SystemExit(3)


def _client(options: dict[str, Any]) -> ClientBucket | None:
    given = {name: options[name] for name in _CLIENT_OPTIONS}
    if options["hosted"]:
        if any(given.values()) or options["secret_file"] or options["keep_secret"]:
            raise CommandError("--hosted goes alone: the operator's bucket is set up in the settings.")
        return None
    return ClientBucket(**given, secret=_secret(options))


def _secret(options: dict[str, Any]) -> str | None:
    if options["secret_file"]:
        return read_secret(options["secret_file"])
    if not options["access_key_id"] or options["keep_secret"]:
        return None
    return getpass.getpass("Secret of the access key: ") if sys.stdin.isatty() else read_secret("-")
