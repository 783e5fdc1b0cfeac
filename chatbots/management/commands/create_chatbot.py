from typing import Any

from django.core.management.base import CommandParser

from chatbots.callback_urls import receiver_of
from chatbots.management.base import (
    add_csv_dialect_argument,
    add_deadline_argument,
    add_export_assurance_argument,
    add_formats_argument,
    add_variables_argument,
)
from chatbots.models import GDPR, Chatbot
from chatbots.operations.chatbots import create_chatbot
from common.commands import ACTOR, ReportingCommand

# The operation's arguments, whose names are those of the options.
_ARGUMENTS = (
    *("slug", "name", "timezone", "variables", "uci", "enable_compliance", "hosted_bucket", "enable_extracts"),
    *("export_assurance", "csv_dialect", "export_formats", "deadline", "callback_url"),
)


class Command(ReportingCommand):
    help = """Create a chatbot, whose conversations are stored and for which requests are filed.

A request names a chatter by the Unique Chatter Identifier (UCI): one of the chatbot's variables. Its value is stored
with each conversation that begins after it was designated.
"""
    examples = """\
examples:
  manage.py create_chatbot acme --name "Acme support" --timezone Europe/Paris \\
      --variable custom:member_id --variable user_channel:plan --uci member_id \\
      --enable-compliance --hosted-bucket

Then give its callers a key: manage.py create_api_key acme --type signing --label "CRM"
Set a client's own bucket afterwards with set_bucket; change everything else with set_chatbot.

exit codes: 0 created, 1 refused, 2 wrong command line
"""

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("slug", help="the chatbot's name in paths: letters, digits, - and _")
        parser.add_argument("--name", required=True, help="display name")
        parser.add_argument("--timezone", default="UTC", help="an IANA name; default: UTC")
        add_variables_argument(parser)
        parser.add_argument("--uci", metavar="NAME", help="the variable that identifies the chatter")
        parser.add_argument(
            "--enable-compliance", action="store_true", help="allow deletions and exports to be filed"
        )
        parser.add_argument(
            "--hosted-bucket", action="store_true", help="put exports into the operator's bucket (S3_BUCKET)"
        )
        parser.add_argument(
            "--enable-extracts", action="store_true", help="write daily extracts; needs --hosted-bucket"
        )
        add_export_assurance_argument(parser, default=Chatbot.ExportAssurance.ANY)
        add_csv_dialect_argument(parser, default=Chatbot.CsvDialect.STANDARD)
        add_formats_argument(parser, default=Chatbot.ExportFormat.CSV)
        add_deadline_argument(parser, default=GDPR)
        parser.add_argument(
            "--callback-url",
            default="",
            metavar="URL",
            help="receives the outcome of requests; needs a signing key",
        )

    def handle(self, *_args: Any, **options: Any) -> None:
        chatbot = create_chatbot(**{name: options[name] for name in _ARGUMENTS}, actor=ACTOR)
        document = {
            "slug": chatbot.slug,
            "name": chatbot.name,
            "timezone": chatbot.timezone,
            "variables": [f"{variable.category}:{variable.name}" for variable in options["variables"]],
            "uci": options["uci"],
            "compliance_enabled": chatbot.compliance_enabled,
            "hosted_bucket": options["hosted_bucket"],
            "extracts_enabled": chatbot.extracts_enabled,
            "export_assurance": chatbot.export_assurance,
            "csv_dialect": chatbot.csv_dialect,
            "export_formats": chatbot.export_formats,
            "deadline": chatbot.deadline,
            "callback_receiver": receiver_of(chatbot.callback_url),
        }
        self.report(document, f"Created the chatbot {chatbot.slug}.")
