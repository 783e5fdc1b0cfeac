import getpass
import sys
from typing import Any

from django.core.management.base import CommandError, CommandParser

from chatbots.management.base import bucket_as_json, find_chatbot, read_secret, result_as_json, result_lines
from chatbots.models import Bucket, BucketCredential
from chatbots.operations.buckets import CLIENT_SETTINGS, ClientBucket, check_bucket, set_bucket
from common.commands import ACTOR, ReportingCommand


class Command(ReportingCommand):
    help = """Set the bucket for a chatbot's exports and extracts: the operator's, or the client's own.

The service accesses a client's bucket with an access key of the client, whose secret is stored encrypted, or by a
role that the client lets it assume. At the end it tries each call that it will make, as check_bucket does. Files
written before stay where they are.
"""
    examples = """\
examples:
  manage.py set_bucket acme --hosted
  manage.py set_bucket acme --bucket acme-files --region eu-west-3 --prefix exports/ \\
      --access-key-id AKIAEXAMPLE --secret-file secret.txt
  manage.py set_bucket acme --bucket acme-files --region eu-west-3 --sse aws:kms --kms-key-id alias/files \\
      --role-arn arn:aws:iam::123456789012:role/exports --no-check

For a role: set it with --no-check, give the client the output of bucket_policy, then run check_bucket. Without
--secret-file the command prompts for the secret, or reads it from standard input; it is never on the command line.

exit codes: 0 set, and working if checked, 1 refused, 2 wrong command line, 3 set but does not work
"""

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("slug", help="the chatbot's slug")
        which = parser.add_mutually_exclusive_group(required=True)
        which.add_argument("--hosted", action="store_true", help="the operator's bucket (S3_BUCKET)")
        which.add_argument("--bucket", default="", metavar="NAME", help="the client's own bucket")
        parser.add_argument("--region", default="", help="region of the client's bucket")
        parser.add_argument("--prefix", default="", help="folder for all files; default: none")
        parser.add_argument("--endpoint", default="", metavar="URL", help="endpoint of a store other than AWS")
        parser.add_argument(
            "--sse", default="", choices=[value for value in Bucket.Sse.values if value], help="encryption to request"
        )
        parser.add_argument("--kms-key-id", default="", metavar="KEY", help="with --sse aws:kms: id, alias or ARN")
        parser.add_argument("--access-key-id", default="", metavar="ID", help="an access key of the client")
        parser.add_argument("--secret-file", metavar="FILE", help='its secret ("-": standard input)')
        parser.add_argument("--keep-secret", action="store_true", help="keep the secret stored for this key")
        parser.add_argument("--role-arn", default="", metavar="ARN", help="a role to assume, instead of a key")
        parser.add_argument("--no-check", action="store_true", help="do not try the bucket")

    def handle(self, *_args: Any, **options: Any) -> None:
        chatbot = find_chatbot(options["slug"])
        bucket = set_bucket(chatbot=chatbot, client=_client(options), actor=ACTOR)
        credentials = BucketCredential.objects.filter(chatbot=chatbot, revoked_at__isnull=True)
        if bucket.hosting == Bucket.Hosting.CLIENT and credentials.exists():
            self.stderr.write(
                "The client still has credentials for its files in the hosted bucket: bucket_credentials lists them. "
                "Revoke them once it has fetched its files."
            )
        result = None if options["no_check"] else check_bucket(chatbot=chatbot)
        self.report(
            {**bucket_as_json(bucket), "check": result and result_as_json(result)},
            f"The files of {chatbot.slug} go to the {bucket.hosting} bucket from now on.",
            *([f"The role's external id: {bucket.external_id}"] if bucket.role_arn else []),
            *(result_lines(result) if result else []),
        )
        if result and not result.is_ok:
            raise SystemExit(3)


def _client(options: dict[str, Any]) -> ClientBucket | None:
    given = {name: options[name] for name in CLIENT_SETTINGS}
    if options["hosted"]:
        if any(given.values()) or options["secret_file"] or options["keep_secret"]:
            raise CommandError("Use --hosted alone: the operator's bucket is configured in the settings.")
        return None
    return ClientBucket(**given, secret=_secret(options))


def _secret(options: dict[str, Any]) -> str | None:
    if options["secret_file"]:
        return read_secret(options["secret_file"])
    if not options["access_key_id"] or options["keep_secret"]:
        return None
    return getpass.getpass("Secret of the access key: ") if sys.stdin.isatty() else read_secret("-")
