import json
from typing import Any

from django.core.management.base import CommandParser

from chatbots.management.base import credential_as_json
from chatbots.operations.credentials import can_issue, compare_with_iam, list_bucket_credentials
from common.commands import TeachingCommand


class Command(TeachingCommand):
    help = """List clients' credentials for the hosted bucket, and compare them with IAM.

Reports what a person must look at: credentials whose issuing or revoking was interrupted, IAM users without
credentials here (after a restore, or those of another installation in the same store), and credentials whose user is
gone. Changes nothing. Without IAM_ACCESS_KEY_ID it does not compare.
"""
    examples = """\
examples:
  manage.py bucket_credentials
  manage.py bucket_credentials --json

exit codes: 0 nothing to look at, 1 IAM refuses or does not answer, 2 wrong command line, 3 something to look at
"""

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--json", action="store_true", help="print one JSON document")

    def handle(self, *_args: Any, **options: Any) -> None:
        present = list_bucket_credentials()
        compared = compare_with_iam() if can_issue() else None
        unknown = compared.unknown_users if compared else []
        missing = [one.user_name for one in compared.missing] if compared else []
        if options["json"]:
            listed = [credential_as_json(one) for one in present]
            self.stdout.write(
                json.dumps(
                    {"credentials": listed, "compared": compared is not None, "unknown": unknown, "missing": missing}
                )
            )
        else:
            for one in present:
                self.stdout.write(
                    f"{one.chatbot.slug}  {one.access_key_id or one.user_name}  {one.state}  "
                    f"{one.created_at:%Y-%m-%d} by {one.created_by}  {one.label}".rstrip()
                )
            for name in unknown:
                self.stdout.write(f"IAM user without credentials here: {name}")
            for name in missing:
                self.stdout.write(f"The IAM user is gone: {name}. Revoke these credentials.")
        if unknown or missing or any(one.is_unfinished for one in present):
            raise SystemExit(3)
