from typing import Any

from django.core.management.base import CommandError, CommandParser
from django.db import transaction

from chatbots.models import ApiKey, Chatbot, Variable
from chatbots.operations.chatbots import NewVariable, create_chatbot
from chatbots.operations.keys import create_api_key, revoke_api_key
from common.commands import ReportingCommand
from common.crypto import encrypt
from compliance.canary.words import NOTE, PLAN, UCI
from compliance.models import Canary
from compliance.models.canary import canary_token_binding

Category, Scope = Variable.Category, ApiKey.Scope

_BY: Any = {"actor": "command"}
# The scopes of a client's backend. It cannot approve, so that a held deletion is noticed.
_SCOPES = (Scope.CONVERSATIONS_WRITE, Scope.CONVERSATIONS_READ, Scope.REQUESTS_READ, Scope.DELETIONS_WRITE)


class Command(ReportingCommand):
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

    @transaction.atomic
    def handle(self, *args: Any, **options: Any) -> None:
        canary = Canary.objects.select_for_update(of=["self"]).select_related("chatbot").first()
        if options["new_keys"] and canary is None:
            raise CommandError("There is no canary. Create it first.")
        if canary and not options["new_keys"]:
            raise CommandError("There is a canary already. New keys are made by --new-keys.")
        canary = canary or Canary(chatbot=_new_chatbot(options["slug"]))
        canary.token_encrypted = _new_keys(canary.chatbot)
        canary.save()
        line = f"Created the canary, with the chatbot {canary.chatbot.slug}."
        if options["new_keys"]:
            line = "The canary has new keys. The former ones are revoked."
        self.report({"slug": canary.chatbot.slug, "new_keys": options["new_keys"]}, line)


def _new_chatbot(slug: str) -> Chatbot:
    """Return a new chatbot. An existing one of a client would be billed for the canary's conversations."""
    custom = [NewVariable(Category.CUSTOM, name) for name in (UCI, NOTE)]
    return create_chatbot(
        slug=slug,
        name="Canary",
        variables=[*custom, NewVariable(Category.USER_CHANNEL, PLAN)],
        uci=UCI,
        enable_compliance=True,
        hosted_bucket=True,
        enable_extracts=True,
        **_BY,
    )


def _new_keys(chatbot: Chatbot) -> str:
    """Replace the keys by a signing key, which is read from its own row, and a token; return the token, encrypted."""
    of_both: Any = {"chatbot": chatbot, "label": "canary"}
    for prefix in list(ApiKey.objects.filter(**of_both, revoked_at=None).values_list("prefix", flat=True)):
        revoke_api_key(prefix=prefix, chatbot=chatbot, **_BY)
    # Turns make some dozens of calls, whatever the limit of others is.
    of_both |= _BY | {"rate_limit": 600}
    create_api_key(type=ApiKey.Type.SIGNING, **of_both)
    made = create_api_key(type=ApiKey.Type.TOKEN, scopes=_SCOPES, **of_both)
    return encrypt(made.secret or "", bound_to=canary_token_binding(chatbot.pk))
