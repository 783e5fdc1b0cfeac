"""The commands that send conversations, and say who chatted in them."""

import json
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import click

from data_compliance_client.bodies import Stored
from data_compliance_client.commands.settings import Settings
from data_compliance_client.commands.terminal import NOT_DONE, Input, bar_options, connected, key_of, reader


@click.command("import", short_help="Store conversations: one JSON document a line.")
@click.argument("file", type=Input(), default="-")
@click.option("--json", "as_json", is_flag=True, help="Print each result.")
@click.pass_obj
def import_conversations(settings: Settings, file: str, as_json: bool) -> None:
    """Store conversations: one JSON document a line of FILE.

    It is safe to run again: what is stored already stays as it is. Refused lines are told by their number.
    """
    with connected(settings) as client, reader(file) as lines:
        _show_stored(client.send(_counted(lines, file)), as_json=as_json)


@click.command(short_help="Say who chatted in conversations: one JSON object a line.")
@click.argument("file", type=Input(), default="-")
@click.option("--key", help="Name of the variable that identifies the chatter.")
@click.option("--json", "as_json", is_flag=True, help="Print each result.")
@click.pass_obj
def identify(settings: Settings, file: str, key: str | None, as_json: bool) -> None:
    """Say who chatted in conversations: one JSON object a line of FILE, with "id" and "value".

    \b
    Example of a line:
      {"id": "c-2001", "value": "m-77"}
    """
    key = key_of(settings, key)

    def identities(lines: Iterable[bytes]) -> Iterator[tuple[str, str, str]]:
        for number, line in enumerate(lines, start=1):
            try:
                one = json.loads(line)
                yield one["id"], key, one["value"]
            except (ValueError, KeyError, TypeError):
                raise click.UsageError(f'Line {number} is not like {{"id": "c-2001", "value": "m-77"}}.') from None

    with connected(settings) as client, reader(file) as lines:
        _show_stored(client.identify(identities(_counted(lines, file))), as_json=as_json)


def _counted(lines: BinaryIO, name: str) -> Iterator[bytes]:
    """Yield the lines of a file, with a bar on a terminal."""
    if name == "-":
        yield from lines
        return
    bar: Any
    with click.progressbar(length=Path(name).stat().st_size, label="Sending", **bar_options()) as bar:
        for line in lines:
            yield line
            bar.update(len(line))


def _show_stored(results: Iterable[Stored], *, as_json: bool) -> None:
    outcomes: dict[str, int] = {}
    for one in results:
        outcomes[one.outcome] = outcomes.get(one.outcome, 0) + 1
        if as_json:
            error = one.error and {"code": one.error.code, "errors": list(one.error.errors)}
            result = {"line": one.position, "number": one.number, "outcome": one.outcome, "error": error}
            click.echo(json.dumps(result))
        elif one.error:
            click.echo(f"Line {one.position} is refused: {one.error}", err=True)
    if not as_json:
        click.echo(
            ", ".join(f"{number} {outcome}" for outcome, number in sorted(outcomes.items())) or "Nothing sent."
        )
    if "refused" in outcomes:
        sys.exit(NOT_DONE)
