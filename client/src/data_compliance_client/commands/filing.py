"""The commands that file requests, follow them and download exports."""

import json
import sys
import uuid
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Literal, TypeVar

import click

from data_compliance_client import bodies
from data_compliance_client.bodies import Request
from data_compliance_client.clients import Client
from data_compliance_client.commands.settings import Settings
from data_compliance_client.commands.terminal import (
    NOT_DONE,
    UNDECIDED,
    Input,
    bar_options,
    connected,
    key_of,
    repeatable,
    text_of,
)
from data_compliance_client.errors import APIError

F = TypeVar("F", bound=Callable[..., Any])


def _subject_options(command: F) -> F:
    for option in (
        click.option("--conversation-ids", type=Input(), help="Conversations, one id a line, in place of a value."),
        click.option("--value", type=Input(), default="-", show_default=True, help="File with the chatter's value."),
        click.option("--key", help="Name of the variable that identifies the chatter."),
    ):
        command = option(command)
    return command


def _filing_options(command: F) -> F:
    for option in (
        click.option("--json", "as_json", is_flag=True, help="Print the request object."),
        click.option("--timeout", type=float, help="Wait for this many seconds at most."),
        click.option("--wait", is_flag=True, help="Wait until the request has ended."),
        click.option("--preview", is_flag=True, help="Show what it would do, and file nothing."),
        click.option("--each-line", is_flag=True, help="File one request for each line of the input."),
        click.option("--idempotency-key", help="Makes the command safe to repeat for 24 hours."),
        click.option("--requested-at", help="When the person asked: a date, or a time with its offset."),
        click.option("--callback-url", help="Where callbacks go."),
        click.option("--reference", help="Your ticket, without the value in it."),
    ):
        command = option(command)
    return _subject_options(command)


@click.command()
@click.option("--erase-exports", is_flag=True, help="Remove the chatter's fresh exports too.")
@_filing_options
@click.pass_obj
def delete(settings: Settings, /, erase_exports: bool, **options: Any) -> None:
    """File a deletion. It cannot be undone.

    \b
    Examples:
      echo m-77 | dca delete --preview
      echo m-77 | dca delete --reference TICKET-7 --wait
      dca delete --each-line --value tonight.txt --idempotency-key nightly-2026-12-01
      dca delete --conversation-ids ids.txt
    """
    with connected(settings) as client:
        body = {"erase_exports": True} if erase_exports else {}
        _filed(client, settings, "delete", body, **options)


@click.command()
@click.option("--output", type=click.Path(path_type=Path), help="Wait, and download to this file or folder.")
@click.option("--format", "formats", multiple=True, type=click.Choice(["csv", "json", "html"]), help="Repeatable.")
@click.option("--zip", "as_zip", is_flag=True, help="One ZIP with all files.")
@click.option("--include-files", is_flag=True, help="Copy uploaded files too.")
@click.option("--include-shared", is_flag=True, help="Include conversations in which another chatter took part.")
@click.option("--csv-dialect", type=click.Choice(["standard", "excel_comma", "excel_semicolon"]))
@click.option("--again", is_flag=True, help="File it also where an equal export waits.")
@_filing_options
@click.pass_obj
def export(
    settings: Settings, /, output: Path | None, formats: tuple[str, ...], as_zip: bool, **options: Any
) -> None:
    """File an export.

    \b
    Examples:
      echo m-77 | dca export --output m-77.csv
      echo m-77 | dca export --format html --format json --zip --output m-77.zip
    """
    flags = {name: options.pop(name) for name in ("include_files", "include_shared", "again")}
    body: dict[str, Any] = {name: True for name, is_set in flags.items() if is_set}
    body |= {"csv_dialect": options.pop("csv_dialect"), "formats": list(formats) or None}
    body |= {"archive": "zip" if as_zip else None}
    options["wait"] = options["wait"] or bool(output)
    with connected(settings) as client:
        request = _filed(client, settings, "export", body, **options)
        if output and request:
            _download(client, request, output)


def _filed(
    client: Client,
    settings: Settings,
    action: Literal["delete", "export"],
    body: dict[str, Any],
    *,
    preview: bool,
    each_line: bool,
    wait: bool,
    timeout: float | None,
    as_json: bool,
    idempotency_key: str | None,
    key: str | None,
    value: str,
    conversation_ids: str | None,
    **common: Any,
) -> Request | None:
    """File what the options say, and show it. Returns the one request, after the wait for it."""
    idempotency_key = idempotency_key or str(uuid.uuid4())
    if each_line and (preview or wait or conversation_ids):
        raise click.UsageError("--each-line files at once, by values: leave out --preview, --wait, --output and ids.")
    body |= common
    body_of: Callable[..., dict[str, Any]] = bodies.deletion if action == "delete" else bodies.export
    file: Callable[..., Request] = client.delete if action == "delete" else client.export
    if each_line:
        key = key_of(settings, key)
        lines = enumerate(text_of(value, f"Value of {key}").split("\n"), start=1)
        values = {number: line.removesuffix("\r") for number, line in lines if line.strip()}
        found = client.file(
            (body_of(key=key, value=one, **body) for one in values.values()), idempotency_key=idempotency_key
        )
        with repeatable(idempotency_key):
            _show_each(zip(values, found, strict=True), as_json=as_json)
        return None
    subject = _subject(settings, key, value, conversation_ids)
    if preview:
        click.echo(json.dumps(client.preview(action, **subject), indent=2, ensure_ascii=False))
        return None
    with repeatable(idempotency_key):
        request = file(idempotency_key=idempotency_key, **subject, **body)
    if wait:
        click.echo(f"{request.id} is filed.", err=True)
        request = _waited(client, request.id, timeout)
    _show(request, as_json=as_json, ends=wait)
    return request


def _subject(settings: Settings, key: str | None, value: str, conversation_ids: str | None) -> dict[str, Any]:
    if conversation_ids:
        lines = text_of(conversation_ids, "Id of the conversation").split("\n")
        return {"conversation_ids": [line.removesuffix("\r") for line in lines if line.strip()]}
    key = key_of(settings, key)
    text = text_of(value, f"Value of {key}")
    if "\n" in text:
        # Nobody has it, and "nothing found" would look like the end of the matter.
        raise click.UsageError("The input has several lines. Use --each-line to file a request for each of them.")
    return {"key": key, "value": text}


def _show_each(found: Iterable[tuple[int, Request | APIError]], *, as_json: bool) -> None:
    are_refused = False
    for number, one in found:
        if isinstance(one, Request):
            click.echo(json.dumps(one.data) if as_json else f"{number} {_line_of(one)}")
        else:
            are_refused = True
            click.echo(json.dumps({"error": {"code": one.code}}) if as_json else f"{number} refused: {one}")
    if are_refused:
        sys.exit(NOT_DONE)


def _line_of(request: Request) -> str:
    reason = request.result or request.hold_reason or (request.data["error"] or {}).get("code")
    return f"{request.id} {request.kind} {request.status}" + (f" ({reason})" if reason else "")


def _show(request: Request, *, as_json: bool, ends: bool) -> None:
    """Print a request. With `ends` the command ends with the code of its state, unless it is completed."""
    if as_json:
        click.echo(json.dumps(request.data, indent=2, ensure_ascii=False))
    else:
        click.echo(_line_of(request))
        counts = ", ".join(f"{name} {number}" for name, number in request.data["counts"].items() if number)
        if counts:
            click.echo(f"  {counts}")
        if request.finished_at is None:
            click.echo(f"  due {request.due_at:%Y-%m-%d %H:%M} UTC")
    if ends and request.status != "completed":
        sys.exit(UNDECIDED if request.is_unfinished or request.status == "on_hold" else NOT_DONE)


def _waited(client: Client, request_id: str, timeout: float | None) -> Request:
    """Wait for a request, with a bar on a terminal."""
    bar: Any
    with click.progressbar(length=0, label="Conversations", **bar_options()) as bar:

        def on_change(request: Request) -> None:
            done, total = request.progress
            bar.length = total
            bar.pos = done
            bar.render_progress()

        return client.wait(request_id, timeout=timeout, on_change=on_change)


@click.command()
@click.argument("request_id")
@click.option("--json", "as_json", is_flag=True, help="Print the request object.")
@click.pass_obj
def status(settings: Settings, request_id: str, as_json: bool) -> None:
    """Show a request as it is now."""
    with connected(settings) as client:
        _show(client.request(request_id), as_json=as_json, ends=False)


@click.command()
@click.argument("request_id")
@click.option("--timeout", type=float, help="Wait for this many seconds at most.")
@click.option("--json", "as_json", is_flag=True, help="Print the request object.")
@click.pass_obj
def wait(settings: Settings, request_id: str, timeout: float | None, as_json: bool) -> None:
    """Wait until a request has ended, or needs a decision."""
    with connected(settings) as client:
        _show(_waited(client, request_id, timeout), as_json=as_json, ends=True)


@click.command()
@click.argument("request_id")
@click.option("--output", type=click.Path(path_type=Path), required=True, help="File, or folder.")
@click.option("--file", help="One of several files, by its name.")
@click.pass_obj
def download(settings: Settings, request_id: str, output: Path, file: str | None) -> None:
    """Download the files of a completed export, and check them."""
    with connected(settings) as client:
        _download(client, client.request(request_id), output, file)


def _download(client: Client, request: Request, output: Path, file: str | None = None) -> None:
    for path in client.download(request, output, file=file):
        click.echo(f"{path} is saved, and has the right SHA-256.", err=True)
