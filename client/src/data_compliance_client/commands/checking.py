"""The commands that check: callbacks and keys."""

import json
from collections.abc import Callable
from contextlib import suppress

import click

from data_compliance_client import codes
from data_compliance_client.clients import Client
from data_compliance_client.commands.settings import Settings
from data_compliance_client.commands.terminal import NOT_DONE, Input, connected, end, reader
from data_compliance_client.errors import APIError, InvalidCallback
from data_compliance_client.signing import verify_callback


@click.command("verify-callback", short_help="Verify the signature of a callback.")
@click.argument("body", type=Input(), default="-")
@click.option("--id", "identifier", required=True, help="Header webhook-id.")
@click.option("--timestamp", required=True, help="Header webhook-timestamp.")
@click.option("--signature", required=True, help="Header webhook-signature.")
@click.option("--tolerance", type=float, default=300, show_default=True, help="How many seconds old it may be.")
@click.option("--json", "as_json", is_flag=True, help="Print the callback.")
@click.pass_obj
def verify(
    settings: Settings,
    /,
    body: str,
    *,
    identifier: str,
    timestamp: str,
    signature: str,
    tolerance: float,
    as_json: bool,
) -> None:
    """Verify the signature of a callback, whose BODY is as it came.

    \b
    Example:
      dca verify-callback body --id "$ID" --timestamp "$TIMESTAMP" --signature "$SIGNATURE"
    """
    secrets = settings.callback_secret.split()
    if not secrets:
        raise click.UsageError("Set callback_secret in the settings, or DCA_CALLBACK_SECRET in the environment.")
    headers = {"webhook-id": identifier, "webhook-timestamp": timestamp, "webhook-signature": signature}
    with reader(body) as file:
        raw = file.read()
    try:
        callback = verify_callback(raw, headers, *secrets, tolerance=tolerance)
    except InvalidCallback as error:
        end(str(error), NOT_DONE)
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    click.echo(json.dumps(callback.data) if as_json else f"{callback.event} {callback.request_id or ''}".strip())


@click.group()
def keys() -> None:
    """Look at the keys."""


# A call for each scope that changes nothing: its body is about nothing. The first one tells whether the token is the
# chatbot's, so that "not found" of another says only that there is nothing.
_NOTHING = "00000000-0000-0000-0000-000000000000"
_PROBES: dict[str, Callable[[Client], object]] = {
    "requests:read": lambda client: client.call("GET", "requests?limit=1"),
    "requests:approve": lambda client: client.decide(_NOTHING, "approve"),
    "deletions:write": lambda client: client.preview("delete", conversation_ids=[_NOTHING]),
    "exports:write": lambda client: client.preview("export", conversation_ids=[_NOTHING]),
    "conversations:read": lambda client: client.call("GET", "conversations?limit=1"),
    "conversations:write": lambda client: client.call("POST", "conversations", []),
    "identities:write": lambda client: client.call("POST", "conversations/identify", {"identities": []}),
    "messages:redact": lambda client: client.call("POST", "conversations/0/messages/redact", {}),
    "changelog:read": lambda client: next(client.changelog(), None),
    "holds:read": lambda client: client.call("GET", "legal-holds?limit=1"),
    "holds:write": lambda client: client.call("POST", "legal-holds/preview", {}),
}


@keys.command()
@click.option("--json", "as_json", is_flag=True, help="Print the scopes as JSON.")
@click.pass_obj
def check(settings: Settings, as_json: bool) -> None:
    """Show what the keys of the settings may do. It changes nothing."""
    found: dict[str, dict[str, bool]] = {}
    with connected(settings) as client:
        if settings.token:
            with suppress(codes.ScopeMissing):
                _PROBES["requests:read"](client)
            found["token"] = {scope: _is_allowed(client, probe) for scope, probe in _PROBES.items()}
        if settings.signing_secret:
            # Signed, and without a chatter: refused once the key was found.
            found["signing key"] = {
                "deletions:write": _is_allowed(client, Client.delete),
                "exports:write": _is_allowed(client, Client.export),
            }
    if as_json:
        click.echo(json.dumps(found))
        return
    for key, scopes in found.items():
        click.echo(f"The {key} is valid for {settings.chatbot}. It may:")
        for scope, is_allowed in scopes.items():
            click.echo(f"  {'yes' if is_allowed else 'no':4}{scope}")


def _is_allowed(client: Client, probe: Callable[[Client], object]) -> bool:
    """Return whether the key has the scope of a call. Raises APIError if the key is not valid at all."""
    try:
        probe(client)
    except codes.ScopeMissing:
        return False
    except APIError as error:
        if error.status in {401, 429} or error.status >= 500:
            raise
    return True
