import json
from typing import Any

from django.core.exceptions import ValidationError
from django.core.management.base import CommandParser

from chatbots.management.base import as_command_error, find_chatbot
from chatbots.operations import OVERLAP_HOURS, create_callback_secret
from common.commands import TeachingCommand


class Command(TeachingCommand):
    help = """Make the secret that signs a chatbot's callbacks, and show it once.

Callbacks then bear webhook-id, webhook-timestamp and webhook-signature, as Standard Webhooks has them. What signed
before, an earlier secret or the newest signing key, signs beside it for the hours of the overlap: long enough for the
receiver to take the new one. After a leak give --overlap-hours 0.
"""
    examples = """\
examples:
  manage.py create_callback_secret acme
  manage.py create_callback_secret acme --overlap-hours 0 --json

exit codes: 0 made, 1 refused, 2 the command line is wrong
"""

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("slug", help="of the chatbot")
        parser.add_argument(
            "--overlap-hours",
            type=int,
            default=OVERLAP_HOURS,
            metavar="N",
            help=f"how long what signed before signs as well, 0 to 720; {OVERLAP_HOURS} by default",
        )
        parser.add_argument("--json", action="store_true", help="print one JSON document")

    def handle(self, *_args: Any, **options: Any) -> None:
        chatbot = find_chatbot(options["slug"])
        try:
            made = create_callback_secret(chatbot=chatbot, overlap_hours=options["overlap_hours"], actor="command")
        except ValidationError as error:
            raise as_command_error(error) from None
        if options["json"]:
            shown = {"chatbot": chatbot.slug, "secret": made.secret, "overlap_hours": made.overlap_hours}
            self.stdout.write(json.dumps(shown))
            return
        self.stderr.write(f"Made the callback secret of {chatbot.slug}. Keep it now: it is not shown again.")
        self.stdout.write(made.secret)
