from typing import ClassVar

from django.core.management.base import CommandParser

from chatbots.management.base import add_csv_dialect_argument, add_formats_argument
from compliance.management.base import FilingCommand
from compliance.models import ComplianceRequest


class Command(FilingCommand):
    help = (
        "File an export: put all messages of one chatter's conversations, or of certain conversations, into the\n"
        "bucket, as a CSV, as JSON Lines, or as pages that read like a chat."
    )
    examples = """\
examples:
  manage.py request_export acme member_id 42 --wait
  manage.py request_export acme member_id 42 --include-shared --json
  manage.py request_export acme member_id 42 --include-files --wait
  manage.py request_export acme member_id 42 --csv-dialect excel_semicolon
  manage.py request_export acme member_id 42 --formats csv,html --archive zip --wait
  manage.py request_export acme --conversation - --wait < ids.txt

exit codes: 0 filed (with --wait: completed), 1 there is no such chatbot, 2 refused, 3 failed, 4 on hold,
5 rejected or cancelled, 6 still waiting when the time-out came
"""
    kind = ComplianceRequest.Kind.EXPORT
    choices: ClassVar = {
        "include_shared": "Include conversations in which another chatter took part too; they are left out "
        "otherwise.",
        "include_files": "Copy the uploaded files of the conversations beside the CSV.",
        "again": "File it also where an equal export waits, which would answer for it otherwise.",
    }

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        add_csv_dialect_argument(parser, "how the CSV is written, in place of the chatbot's")
        add_formats_argument(parser, "--formats", "the formats, in place of the chatbot's")
        parser.add_argument(
            "--archive", choices=["zip"], default="", help="one ZIP with all files, in place of a folder"
        )
