from typing import Any

from django.core.management.base import CommandParser

from chatbots.management.base import find_chatbot
from chatbots.operations.keys import OVERLAP_HOURS, create_callback_secret
from common.commands import ACTOR, ReportingCommand


class Command(ReportingCommand):
    help = """Create the secret that signs a chatbot's callbacks, and show it once.

Callbacks then carry webhook-id, webhook-timestamp and webhook-signature, as defined by Standard Webhooks. The
previous signer, an earlier secret or the newest signing key, signs as well during the overlap, so that the receiver
has time to switch. After a leak, use --overlap-hours 0.
"""
    examples = """\
examples:
  manage.py create_callback_secret acme
  manage.py create_callback_secret acme --overlap-hours 0 --json

exit codes: 0 created, 1 refused, 2 wrong command line
"""

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("slug", help="the chatbot's slug")
        parser.add_argument(
            "--overlap-hours",
            type=int,
            default=OVERLAP_HOURS,
            metavar="N",
            help=f"how long the previous signer signs as well, 0 to 720; default: {OVERLAP_HOURS}",
        )

    def handle(self, *_args: Any, **options: Any) -> None:
        chatbot = find_chatbot(options["slug"])
        created = create_callback_secret(chatbot=chatbot, overlap_hours=options["overlap_hours"], actor=ACTOR)
        if not self.as_json:
            self.stderr.write(f"Created the callback secret of {chatbot.slug}. Store it now: it is not shown again.")
        document = {"chatbot": chatbot.slug, "secret": created.secret, "overlap_hours": created.overlap_hours}
        self.report(document, created.secret)
