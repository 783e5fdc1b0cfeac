from typing import Any

from django.core.management.base import CommandParser

from chatbots.management.base import add_settings_arguments, chatbot_as_json
from chatbots.operations.chatbots import create_chatbot
from common.commands import ACTOR, ReportingCommand

_SETTINGS = ("name", "timezone", "export_assurance", "csv_dialect", "export_formats", "deadline")
# The operation's arguments, whose names are those of the options.
_SWITCHES = ("enable_compliance", "hosted_bucket", "enable_extracts")
_ARGUMENTS = ("slug", *_SETTINGS, "variables", "uci", *_SWITCHES, "callback_url")


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
        add_settings_arguments(parser)
        parser.add_argument(
            "--callback-url",
            default="",
            metavar="URL",
            help="receives the outcome of requests; needs a signing key",
        )

    def handle(self, *_args: Any, **options: Any) -> None:
        given = {name: options[name] for name in _ARGUMENTS if options[name] is not None}
        chatbot = create_chatbot(**given, actor=ACTOR)
        shown = (*_SETTINGS, "compliance_enabled", "extracts_enabled")
        document = chatbot_as_json(chatbot, shown) | {"hosted_bucket": options["hosted_bucket"]}
        self.report(document, f"Created the chatbot {chatbot.slug}.")
