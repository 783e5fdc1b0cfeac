"""Shared by commands: their arguments, and the output of a bucket and of the result of its check."""

import sys
from argparse import ArgumentTypeError
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import CommandError, CommandParser

from chatbots.callback_urls import receiver_of
from chatbots.models import Bucket, BucketCredential, Chatbot, Variable, stored_formats
from chatbots.operations.buckets import BucketCheckResult
from chatbots.operations.chatbots import NewVariable

# The printed fields of a client's bucket. They are listed, so that a secret is never printed.
_PUBLIC = ("bucket", "region", "prefix", "endpoint", "sse", "kms_key_id", "access_key_id", "role_arn", "external_id")


def find_chatbot(slug: str) -> Chatbot:
    """Return the chatbot. Raises CommandError that lists the known slugs."""
    try:
        return Chatbot.objects.get(slug=slug)
    except Chatbot.DoesNotExist:
        known = ", ".join(Chatbot.objects.order_by("slug").values_list("slug", flat=True)[:20])
        advice = f"Known: {known}." if known else "Create one first, with create_chatbot."
        raise CommandError(f"There is no chatbot {slug!r}. {advice}") from None


def find_open_chatbot(slug: str) -> Chatbot:
    """As `find_chatbot`. Raises CommandError also for a chatbot that a restore has left closed."""
    chatbot = find_chatbot(slug)
    if chatbot.closed_at:
        raise CommandError(
            f"{slug} is closed since a restore: a replay could not carry out all that the erasure ledger says of it. "
            "manage.py replay_erasures says what has to be decided."
        )
    return chatbot


def _parse_variable(text: str) -> NewVariable:
    category, colon, name = text.partition(":")
    if not colon:
        raise ArgumentTypeError(f"{text!r} is not CATEGORY:NAME, such as custom:member_id")
    return NewVariable(category, name)


def add_settings_arguments(parser: CommandParser) -> None:
    """Add the arguments that create_chatbot and set_chatbot share."""
    parser.add_argument(
        "--variable",
        dest="variables",
        action="append",
        default=[],
        type=_parse_variable,
        metavar="CATEGORY:NAME",
        help=f"add a variable; categories: {', '.join(Variable.Category.values)}; repeatable",
    )
    parser.add_argument(
        "--export-assurance",
        choices=Chatbot.ExportAssurance.values,
        help="leave conversations with a weaker identity out of exports by UCI: platform leaves out values claimed "
        "through the user channel, verified also those said by the platform; any leaves out none",
    )
    add_csv_dialect_argument(parser, "of exports that are filed without one")
    add_formats_argument(parser, "--export-formats", "of exports that are filed without any")
    parser.add_argument(
        "--deadline",
        metavar="RULE",
        help="by when a request must be answered: gdpr (one month), ccpa (45 days), or a number of days",
    )


def add_csv_dialect_argument(parser: CommandParser, meaning: str) -> None:
    parser.add_argument(
        "--csv-dialect",
        choices=Chatbot.CsvDialect.values,
        help=f"{meaning}: those for Excel have a byte-order mark, CRLF, and commas or semicolons",
    )


def add_formats_argument(parser: CommandParser, name: str, meaning: str) -> None:
    """Add an argument whose value is the formats as they are stored."""
    parser.add_argument(
        name,
        type=_parse_formats,
        metavar="FORMATS",
        help=f"{meaning}, separated by commas: csv (a table), json (JSON Lines), html (pages that read like a chat)",
    )


def _parse_formats(text: str) -> str:
    formats = text.split(",")
    if unknown := set(formats) - set(Chatbot.ExportFormat.values):
        raise ArgumentTypeError(f"{', '.join(sorted(unknown))!r} is none of {', '.join(Chatbot.ExportFormat.values)}")
    return stored_formats(formats)


def read_secret(path: str, what: str = "secret") -> str:
    """Return the secret or key in a file ("-": standard input) without its final newline.

    Raises CommandError, which does not quote the path: it may be the secret itself.
    """
    try:
        text = sys.stdin.read() if path == "-" else Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        raise CommandError(f"Cannot read the {what}: give the name of a text file that you may read.") from None
    return text.removesuffix("\n").removesuffix("\r")


def chatbot_as_json(chatbot: Chatbot, settings_shown: Iterable[str]) -> dict[str, Any]:
    variables = chatbot.variables.order_by("pk")
    return {
        "slug": chatbot.slug,
        **{name: getattr(chatbot, name) for name in settings_shown if name != "callback_url"},
        # The path may be a secret.
        "callback_receiver": receiver_of(chatbot.callback_url),
        "variables": [f"{variable.category}:{variable.name}" for variable in variables],
        "uci": next((variable.name for variable in variables if variable.is_uci), None),
    }


def bucket_as_json(bucket: Bucket) -> dict[str, Any]:
    if bucket.hosting == Bucket.Hosting.HOSTED:
        where = {"bucket": settings.S3_BUCKET, "region": settings.S3_REGION, "prefix": f"{bucket.chatbot.slug}/"}
        return {"slug": bucket.chatbot.slug, "hosting": "hosted", **where}
    return {"slug": bucket.chatbot.slug, "hosting": "client", **{name: getattr(bucket, name) for name in _PUBLIC}}


def credential_as_json(credential: BucketCredential) -> dict[str, Any]:
    times = {name: getattr(credential, name) for name in ("created_at", "active_at", "revoked_at")}
    return {
        "chatbot": credential.chatbot.slug,
        "access_key_id": credential.access_key_id,
        "user": credential.user_name,
        "label": credential.label,
        "origin": credential.origin,
        "state": credential.state,
        "created_by": credential.created_by,
        **{name: at and at.isoformat() for name, at in times.items()},
    }


def result_as_json(result: BucketCheckResult) -> dict[str, Any]:
    steps = [
        {
            "name": step.name,
            "ok": step.is_ok,
            "permission": step.permission,
            "code": step.error.code if step.error else None,
            "detail": step.error.detail if step.error else None,
        }
        for step in result.steps
    ]
    return {"ok": result.is_ok, "error": result.error or None, "steps": steps}


def result_lines(result: BucketCheckResult) -> Iterator[str]:
    for step in result.steps:
        yield f"{'ok    ' if step.is_ok else 'failed'} {step.name} ({step.permission})"
        if step.error:
            yield f"       {step.error.detail}"
    if not result.steps:
        yield result.error
    yield "The bucket can be used." if result.is_ok else "The bucket cannot be used as it is."
