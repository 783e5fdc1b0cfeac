from typing import Any

from chatbots.management.base import credential_as_json
from chatbots.models import BucketCredential
from chatbots.operations.credentials import can_issue, compare_with_iam, list_bucket_credentials
from common.commands import ReportingCommand


class Command(ReportingCommand):
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

    def handle(self, *_args: Any, **options: Any) -> None:
        present, compares = list_bucket_credentials(), can_issue()
        unknown, missing = compare_with_iam() if compares else ([], [])
        listed = [credential_as_json(one) for one in present]
        self.report(
            {"credentials": listed, "compared": compares, "unknown": unknown, "missing": missing},
            *(_line(one) for one in present),
            *(f"IAM user without credentials here: {name}" for name in unknown),
            *(f"The IAM user is gone: {name}. Revoke these credentials." for name in missing),
        )
        if unknown or missing or any(one.is_unfinished for one in present):
            raise SystemExit(3)


def _line(one: BucketCredential) -> str:
    made = f"{one.created_at:%Y-%m-%d} by {one.created_by}"
    return f"{one.chatbot.slug}  {one.access_key_id or one.user_name}  {one.state}  {made}  {one.label}".rstrip()
