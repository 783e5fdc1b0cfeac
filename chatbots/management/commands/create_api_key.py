from typing import Any

from django.core.management.base import CommandError, CommandParser

from chatbots.management.base import find_chatbot, read_secret
from chatbots.models import ApiKey, Chatbot
from chatbots.operations.identity_keys import create_identity_key
from chatbots.operations.keys import NewApiKey, create_api_key
from common.commands import ACTOR, ReportingCommand

# Options that only an identity key has, and those that it does not have.
_OF_IDENTITY = {"algorithm": "--algorithm", "public_key": "--public-key"}
_NOT_OF_IDENTITY = {"scopes": "--scope", "secret_file": "--secret-file", "rate_limit": "--rate-limit"}


class Command(ReportingCommand):
    help = """Create a key of a client company. Its secret is shown once.

A signing key signs the bodies of deletions and exports, as clients of the product already do. A token goes into the
header Authorization: Bearer and serves every call that its scopes allow. An identity key makes no calls: it verifies
the identity tokens in conversation documents, with a secret of ours or with the client's public key. Its tokens name
it by "kid", and the chatbot by "aud".
"""
    examples = """\
examples:
  manage.py create_api_key acme --type signing --label "CRM"
  manage.py create_api_key acme --type signing --label "CRM" --secret-file present-secret.txt
  manage.py create_api_key acme --type token --label "backend" \\
      --scope requests:read --scope conversations:write
  manage.py create_api_key acme --type identity --label "Web shop"
  manage.py create_api_key acme --type identity --label "Web shop" --public-key shop.pub.pem

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
            "--algorithm",
            choices=ApiKey.Algorithm.values,
            help="of an identity key: HS256 makes a secret; default: that of the public key, or HS256 without one",
        )
        parser.add_argument(
            "--public-key",
            metavar="FILE",
            help='of an identity key: the client\'s public key, in PEM ("-": standard input); never a private key',
        )
        parser.add_argument(
            "--rate-limit",
            type=int,
            metavar="N",
            help="calls per minute, 1 to 1,000,000; default: RATE_LIMIT_PER_MINUTE",
        )

    def handle(self, *_args: Any, **options: Any) -> None:
        chatbot = find_chatbot(options["slug"])
        new = _create(chatbot, options)
        key = new.api_key
        is_identity = key.type == ApiKey.Type.IDENTITY
        named = {"kid": key.prefix, "aud": str(chatbot.public_id), "algorithm": key.algorithm} if is_identity else {}
        shown = {
            "type": key.type,
            "prefix": key.prefix,
            "secret": new.secret,
            "chatbot": chatbot.slug,
            "label": key.label,
            "scopes": key.scopes,
            "rate_limit": key.rate_limit,
            **named,
        }
        lines = [
            f"Created the {key.type} key {key.prefix} of {chatbot.slug}.",
            *(f"{name}: {value}" for name, value in named.items()),
        ]
        self.report_secret(shown, *lines, secret=new.secret)


def _create(chatbot: Chatbot, options: dict[str, Any]) -> NewApiKey:
    key_type = ApiKey.Type(options["type"])
    is_identity = key_type == ApiKey.Type.IDENTITY
    for name, option in (_NOT_OF_IDENTITY if is_identity else _OF_IDENTITY).items():
        if options[name] not in (None, []):
            raise CommandError(f"{option} is not for a key of the type {key_type}.")
    if is_identity:
        public_key = options["public_key"]
        return create_identity_key(
            chatbot=chatbot,
            label=options["label"],
            algorithm=options["algorithm"] and ApiKey.Algorithm(options["algorithm"]),
            public_key=public_key and read_secret(public_key, "public key"),
            actor=ACTOR,
        )
    secret_file = options["secret_file"]
    return create_api_key(
        chatbot=chatbot,
        type=key_type,
        label=options["label"],
        scopes=options["scopes"],
        rate_limit=options["rate_limit"],
        taken_over_secret=None if secret_file is None else read_secret(secret_file),
        actor=ACTOR,
    )
