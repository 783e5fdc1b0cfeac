from typing import Any

from django.core.management.base import CommandError, CommandParser

from chatbots.callback_urls import receiver_of
from chatbots.management.base import find_chatbot
from chatbots.models import DEFAULT_POINTER, Resolver
from chatbots.operations.resolvers import remove_resolver, set_resolver
from common.commands import ACTOR, ReportingCommand


class Command(ReportingCommand):
    help = """Set the resolver of a chatbot: the client's address that returns a chatter's value.

When a conversation has begun without a value for the UCI, workers send the variables named here to the address, and
store the value in its answer as the conversation's identity. The UCI must be a custom variable, and the chatbot needs
a callback secret, which signs the calls (create_callback_secret). docs/clients/answer-who-chatted.md describes
the call and the answer. Setting it again replaces it; --off removes it, and nothing more is called.

Only values that cannot be forged on the way make an identity verified: custom variables, or one user-channel variable
that holds an opaque token of the client's own session (--session-token). With other user-channel variables the
answer counts as said by the platform.
"""
    examples = """\
examples:
  manage.py set_resolver acme --url https://api.example.com/who --send session --session-token session
  manage.py set_resolver acme --url https://api.example.com/who --send order_id --pointer /customer/id --json
  manage.py set_resolver acme --off

exit codes: 0 set or removed, 1 refused, 2 wrong command line
"""

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("slug", help="the chatbot's slug")
        which = parser.add_mutually_exclusive_group(required=True)
        which.add_argument("--url", metavar="URL", help="the client's address, over https")
        which.add_argument("--off", action="store_true", help="remove the resolver")
        parser.add_argument(
            "--send", nargs="+", action="extend", metavar="NAME", help="variables to send; never the UCI itself"
        )
        parser.add_argument("--session-token", metavar="NAME", help="the sent user-channel variable with a token")
        parser.add_argument("--pointer", help=f"JSON Pointer to the value in the answer; default: {DEFAULT_POINTER}")

    def handle(self, *_args: Any, **options: Any) -> None:
        chatbot = find_chatbot(options["slug"])
        if options["off"]:
            if options["send"] or options["session_token"] or options["pointer"] is not None:
                raise CommandError("Use --off alone.")
            remove_resolver(chatbot=chatbot, actor=ACTOR)
            resolver = None
            text = f"Identities of {chatbot.slug} are not looked up."
        else:
            resolver = set_resolver(
                chatbot=chatbot,
                url=options["url"],
                send=options["send"] or (),
                session_token=options["session_token"],
                pointer=DEFAULT_POINTER if options["pointer"] is None else options["pointer"],
                actor=ACTOR,
            )
            text = f"Identities of {chatbot.slug} are looked up at {receiver_of(resolver.url)} from now on."
        self.report({"slug": chatbot.slug, "resolver": resolver and _as_json(resolver)}, text)


def _as_json(resolver: Resolver) -> dict[str, Any]:
    return {
        # The path may be a secret.
        "receiver": receiver_of(resolver.url),
        "send": list(resolver.sent().values()),
        "session_token": resolver.session_token and resolver.session_token.name,
        "pointer": resolver.pointer,
    }
