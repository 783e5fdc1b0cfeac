import json
from typing import Any

from django.core.management.base import CommandParser

from common.commands import TeachingCommand
from compliance.canary.setting_up import renew_keys, set_up


class Command(TeachingCommand):
    help = (
        "Create the canary: a chatbot of its own with hosted bucket and daily extracts, a signing key and a token. "
        "Neither key is shown: both are stored encrypted."
    )
    examples = """\
examples:
  manage.py create_canary
  manage.py create_canary --slug proof
  manage.py create_canary --new-keys       after a leak, or when a key was revoked

Then set CANARY_URL and CANARY_MINUTES for web server and workers, or run single turns with manage.py canary.
Its conversations, one or two for each turn, count in the usage of its own chatbot and stay there as deleted ones.

exit codes: 0 created, or the keys are new; 1 refused: there is one already, or the slug is taken
"""

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--slug", default="canary", help="The chatbot's name in paths; by default canary.")
        parser.add_argument(
            "--new-keys", action="store_true", help="Replace the keys of the canary that is there, and revoke those."
        )
        parser.add_argument("--json", action="store_true", help="Print one JSON document.")

    def handle(self, *args: Any, **options: Any) -> None:
        is_new = not options["new_keys"]
        canary = set_up(slug=options["slug"], actor="command") if is_new else renew_keys(actor="command")
        if options["json"]:
            self.stdout.write(json.dumps({"slug": canary.chatbot.slug, "new_keys": options["new_keys"]}))
        elif options["new_keys"]:
            self.stdout.write("The canary has new keys. The former ones are revoked.")
        else:
            self.stdout.write(f"Created the canary, with the chatbot {canary.chatbot.slug}.")
