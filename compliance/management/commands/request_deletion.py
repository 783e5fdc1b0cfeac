from typing import ClassVar

from compliance.management.base import FilingCommand
from compliance.models import ComplianceRequest


class Command(FilingCommand):
    help = (
        "File a deletion: erase what is held of one chatter's conversations, or of certain conversations.\n"
        "It cannot be undone."
    )
    examples = """\
examples:
  manage.py request_deletion acme member_id 42 --wait
  echo 42 | manage.py request_deletion acme member_id - --reference TICKET-7 --json
  manage.py request_deletion acme --conversation c-1001 --conversation c-1002

exit codes: 0 filed (with --wait: completed), 1 there is no such chatbot, 2 refused, 3 failed, 4 on hold,
5 rejected or cancelled, 6 still waiting when the time-out came
"""
    kind = ComplianceRequest.Kind.DELETION
    choices: ClassVar = {"erase_exports": "Remove the chatter's fresh exports too, within their grace."}
