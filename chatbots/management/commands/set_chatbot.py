from argparse import BooleanOptionalAction
from typing import Any

from django.core.management.base import CommandParser

from chatbots.management.base import add_settings_arguments, chatbot_as_json, find_chatbot
from chatbots.operations.chatbots import SETTINGS, change_chatbot
from common.commands import ACTOR, ReportingCommand

_SWITCHES = {"compliance": "allow deletions and exports to be filed", "extracts": "write daily extracts"}


class Command(ReportingCommand):
    help = """Change a chatbot: its name, time zone, variables, UCI and switches. Other settings stay as they are.

A new UCI applies to conversations that begin from now on; earlier ones stay findable under the former UCI. Variables
can only be added. Either all changes are made, or none.
"""
    examples = """\
examples:
  manage.py set_chatbot acme --timezone Europe/Paris --enable-extracts
  manage.py set_chatbot acme --variable custom:customer_id --uci customer_id
  manage.py set_chatbot acme --disable-compliance --json
  manage.py set_chatbot acme --export-assurance verified
  manage.py set_chatbot acme --csv-dialect excel_semicolon --export-formats csv,html
  manage.py set_chatbot acme --deadline ccpa
  manage.py set_chatbot acme --callback-url http://127.0.0.1:9000/privacy

Extracts need a bucket: see set_bucket. Callbacks are signed: see create_callback_secret.

exit codes: 0 changed, or already so, 1 refused, 2 wrong command line
"""

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("slug", help="the chatbot's slug, which cannot be changed")
        parser.add_argument("--name", help="display name")
        parser.add_argument("--timezone", help="an IANA name, such as Europe/Paris")
        parser.add_argument("--uci", metavar="NAME", help="the variable that identifies the chatter from now on")
        for switch, meaning in _SWITCHES.items():
            dest = f"{switch}_enabled"
            group = parser.add_mutually_exclusive_group()
            group.add_argument(f"--enable-{switch}", dest=dest, action="store_const", const=True, help=meaning)
            group.add_argument(f"--disable-{switch}", dest=dest, action="store_const", const=False, help="stop that")
        parser.add_argument("--max-conversations-per-deletion", type=int, metavar="N", help="hold deletions of more")
        parser.add_argument("--four-eyes", action=BooleanOptionalAction, help="each deletion needs an approval")
        parser.add_argument(
            "--require-action", action=BooleanOptionalAction, help='a request must carry "action" in its body'
        )
        parser.add_argument(
            "--token-names-conversation",
            action=BooleanOptionalAction,
            help="an identity token must name its conversation",
        )
        parser.add_argument(
            "--grace-minutes", type=int, metavar="N", help="how long a request can be cancelled before it starts"
        )
        add_settings_arguments(parser)
        parser.add_argument(
            "--callback-url",
            metavar="URL",
            help='receives the outcome of requests without a URL of their own; "" for none',
        )

    def handle(self, *_args: Any, **options: Any) -> None:
        chatbot = change_chatbot(
            chatbot=find_chatbot(options["slug"]),
            changes={name: options[name] for name in SETTINGS if options[name] is not None},
            variables=options["variables"],
            uci=options["uci"],
            actor=ACTOR,
        )
        self.report(chatbot_as_json(chatbot, SETTINGS), f"Changed the chatbot {chatbot.slug}.")
