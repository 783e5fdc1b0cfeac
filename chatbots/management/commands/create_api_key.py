import json
from typing import Any

from django.core.management.base import CommandParser

from chatbots.management.base import find_chatbot, read_secret
from chatbots.models import ApiKey
from chatbots.operations.keys import create_api_key
from common.commands import TeachingCommand


class Command(TeachingCommand):
    help = """Create a key with which a client company calls the API. Its secret is shown once.

A signing key signs the bodies of deletions and exports, as clients of the product already do. A token goes into the
header Authorization: Bearer and serves every call that its scopes allow.
"""
    examples = """\
examples:
  manage.py create_api_key acme --type signing --label "CRM"
  manage.py create_api_key acme --type signing --label "CRM" --secret-file present-secret.txt
  manage.py create_api_key acme --type token --label "backend" \\
      --scope requests:read --scope conversations:write

Several keys can be active at once, so a new one can be rolled out before the old one is revoked.

exit codes: 0 created, 1 refused, 2 wrong command line
"""

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("slug", help="the chatbot's slug")
        parser.add_argument("--type", required=True, choices=ApiKey.Type.values)
        parser.add_argument("--label", required=True, help="name of the key's owner, for people")
        parser.add_argument(
            "--scope",
            dest="scopes",
            action="append",
            default=[],
            choices=ApiKey.Scope.values,
            help="a scope of the key; repeatable; a signing key has both of its two by default",
        )
        parser.add_argument(
            "--secret-file",
            metavar="FILE",
            help='use the secret in this file ("-": standard input) as the signing key; it is not shown',
        )
        parser.add_argument(
            "--rate-limit",
            type=int,
            metavar="N",
            help="calls per minute, 1 to 1,000,000; default: RATE_LIMIT_PER_MINUTE",
        )
        parser.add_argument("--json", action="store_true", help="print one JSON document")

    def handle(self, *_args: Any, **options: Any) -> None:
        chatbot = find_chatbot(options["slug"])
        path = options["secret_file"]
        new = create_api_key(
            chatbot=chatbot,
            type=ApiKey.Type(options["type"]),
            label=options["label"],
            scopes=options["scopes"],
            rate_limit=options["rate_limit"],
            taken_over_secret=None if path is None else read_secret(path),
            actor="command",
        )
        shown = {
            "type": new.api_key.type,
            "prefix": new.api_key.prefix,
            "secret": new.secret,
            "chatbot": chatbot.slug,
            "label": new.api_key.label,
            "scopes": new.api_key.scopes,
            "rate_limit": new.api_key.rate_limit,
        }
        if options["json"]:
            self.stdout.write(json.dumps(shown))
            return
        self.stdout.write(f"Created the {new.api_key.type} key {new.api_key.prefix} of {chatbot.slug}.")
        if new.secret:
            self.stderr.write("Its secret follows. Store it now: it is not shown again.")
            self.stdout.write(new.secret)
