import json
from typing import Any

from django.core.exceptions import ValidationError
from django.core.management.base import CommandParser

from chatbots.callback_urls import receiver_of
from chatbots.management.base import as_command_error, parse_variable
from chatbots.models import Variable
from chatbots.operations import create_chatbot
from common.commands import TeachingCommand


class Command(TeachingCommand):
    help = """Create a chatbot: whose conversations are kept, and for whom requests are filed.

A request names a chatter by the Unique Chatter Identifier (UCI): one of the chatbot's variables, whose value
is stored beside each conversation that begins once it is designated.
"""
    examples = """\
examples:
  manage.py create_chatbot acme --name "Acme support" --timezone Europe/Paris \\
      --variable custom:member_id --variable user_channel:plan --uci member_id \\
      --enable-compliance --hosted-bucket

Then give its callers a key: manage.py create_api_key acme --type signing --label "CRM"
A client's own bucket is set afterwards, with set_bucket; all else is changed with set_chatbot.

exit codes: 0 made, 1 refused, 2 the command line is wrong
"""

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("slug", help="names the chatbot in paths: letters, digits, - and _")
        parser.add_argument("--name", required=True, help="for people to read")
        parser.add_argument("--timezone", default="UTC", help="an IANA name; default: UTC")
        parser.add_argument(
            "--variable",
            dest="variables",
            action="append",
            default=[],
            type=parse_variable,
            metavar="CATEGORY:NAME",
            help=f"a variable; categories: {', '.join(Variable.Category.values)}; repeatable",
        )
        parser.add_argument("--uci", metavar="NAME", help="which of the variables identifies the chatter")
        parser.add_argument(
            "--enable-compliance", action="store_true", help="allow deletions and exports to be filed"
        )
        parser.add_argument(
            "--hosted-bucket", action="store_true", help="put exports into the operator's bucket (S3_BUCKET)"
        )
        parser.add_argument(
            "--enable-extracts", action="store_true", help="write the extract of each day; needs --hosted-bucket"
        )
        parser.add_argument(
            "--callback-url",
            default="",
            metavar="URL",
            help="who is told what became of a request; needs a signing key",
        )
        parser.add_argument("--json", action="store_true", help="print one JSON document")

    def handle(self, *_args: Any, **options: Any) -> None:
        try:
            chatbot = create_chatbot(
                slug=options["slug"],
                name=options["name"],
                timezone=options["timezone"],
                variables=options["variables"],
                uci=options["uci"],
                enable_compliance=options["enable_compliance"],
                hosted_bucket=options["hosted_bucket"],
                enable_extracts=options["enable_extracts"],
                callback_url=options["callback_url"],
                actor="command",
            )
        except ValidationError as error:
            raise as_command_error(error) from None
        if options["json"]:
            self.stdout.write(
                json.dumps(
                    {
                        "slug": chatbot.slug,
                        "name": chatbot.name,
                        "timezone": chatbot.timezone,
                        "variables": [f"{one.category}:{one.name}" for one in options["variables"]],
                        "uci": options["uci"],
                        "compliance_enabled": chatbot.compliance_enabled,
                        "hosted_bucket": options["hosted_bucket"],
                        "extracts_enabled": chatbot.extracts_enabled,
                        "callback_receiver": receiver_of(chatbot.callback_url),
                    }
                )
            )
        else:
            self.stdout.write(f"Created the chatbot {chatbot.slug}.")
