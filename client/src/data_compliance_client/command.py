"""The command `dca`."""

import json
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, Literal, NoReturn, TypeVar

import click
from click.shell_completion import get_completion_class

from data_compliance_client import bodies, codes
from data_compliance_client.bodies import Request, Stored
from data_compliance_client.clients import Client
from data_compliance_client.errors import (
    APIError,
    ComplianceError,
    DownloadIncomplete,
    InvalidCallback,
    Unreachable,
    WaitTimeout,
)
from data_compliance_client.settings import Settings, load
from data_compliance_client.signing import verify_callback

F = TypeVar("F", bound=Callable[..., Any])

NOT_DONE, UNDECIDED, REFUSED, NO_ANSWER = 1, 3, 4, 5

_EXIT_CODES = """
\b
Exit codes:
  0  done
  1  the request failed, was rejected or cancelled; a line was refused; a callback is not genuine
  2  the command was not called right, or a setting is missing
  3  the request is on hold, or did not end in time
  4  the service refused the call
  5  the service did not answer
"""


class _Input(click.Path):
    """The name of a file, or `-` for standard input. A value in its place is not repeated in the error."""

    def __init__(self) -> None:
        super().__init__(dir_okay=False)
        self.name = "file"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if value != "-" and not Path(value).is_file():
            text = "there is no such file. A value comes from a file or from standard input (-), never from here."
            self.fail(text, param, ctx)
        return value


def _reader(name: str) -> BinaryIO:
    if name == "-" and not sys.stdin:
        raise click.UsageError("Standard input is closed.")
    return sys.stdin.buffer if name == "-" else Path(name).open("rb")


def _text(name: str, asked_for: str) -> str:
    """Return what a file or standard input contains, without the end of its last line, and without Windows' mark."""
    if name == "-" and sys.stdin and sys.stdin.isatty():
        return str(click.prompt(asked_for, err=True))
    with _reader(name) as file:
        content = file.read()
    try:
        return content.decode("utf-8-sig").removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError:
        raise click.UsageError("The input is not UTF-8.") from None


@click.group(epilog=_EXIT_CODES, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option("--config", type=click.Path(path_type=Path, dir_okay=False), envvar="DCA_CONFIG", help="Settings.")
@click.version_option(package_name="data-compliance-client")
@click.pass_context
def main(context: click.Context, config: Path | None) -> None:
    """Delete, export and look after what a chatbot platform holds on people.

    The settings are in ~/.config/dca/config.toml, with mode 0600. DCA_URL, DCA_CHATBOT, DCA_TOKEN,
    DCA_SIGNING_SECRET, DCA_CALLBACK_SECRET, DCA_KEY and DCA_PATIENCE in the environment come before it.

    \b
    Settings:
      url = "https://compliance.example.com"
      chatbot = "acme"
      token = "..."
      key = "member_id"

    \b
    Examples:
      echo m-77 | dca delete --reference TICKET-7 --wait
      dca export --output m-77.csv < value.txt
      dca import conversations.jsonl
      dca keys check

    A chatter's value comes from standard input or a file, never from an argument: other users of a machine can see
    arguments, and a shell keeps them.
    """
    if context.invoked_subcommand != "completion":
        context.obj = load(config)


@contextmanager
def _client(settings: Settings) -> Iterator[Client]:
    """Open a client, and end the command with the right code if something goes wrong."""
    try:
        with settings.client() as client:
            yield client
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    except WaitTimeout as error:
        _end(str(error), UNDECIDED)
    except Unreachable as error:
        _end(f"{error}{_again(error)}", NO_ANSWER)
    except DownloadIncomplete as error:
        _end(str(error), NOT_DONE)
    except BrokenPipeError:
        raise
    except OSError as error:
        _end(f"A file could not be read or written: {error.strerror}.", NOT_DONE)
    except APIError as error:
        remedy = (type(error).__doc__ or "").split("\n\n")[-1] if type(error) is not APIError else ""
        trace = f"trace_id {error.trace_id}" if error.trace_id else ""
        again = _again(error) if error.status == 429 or error.status >= 500 else ""
        _end("\n".join(part for part in (f"{error}{again}", " ".join(remedy.split()), trace) if part), REFUSED)


def _again(error: ComplianceError) -> str:
    return f" Call again with --idempotency-key {error.idempotency_key}" if error.idempotency_key else ""


def _end(text: str, code: int) -> NoReturn:
    click.echo(f"Error: {text}", err=True)
    sys.exit(code)


def _subject_options(command: F) -> F:
    for option in (
        click.option("--conversation-ids", type=_Input(), help="Conversations, one id a line, in place of a value."),
        click.option("--value", type=_Input(), default="-", show_default=True, help="File with the chatter's value."),
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


@main.command()
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
    with _client(settings) as client:
        body = {"erase_exports": True} if erase_exports else {}
        _filed(client, settings, "delete", body, **options)


@main.command()
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
    with _client(settings) as client:
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
    if each_line and (preview or wait or conversation_ids):
        raise click.UsageError("--each-line files at once, by values: leave out --preview, --wait, --output and ids.")
    body |= common
    body_of: Callable[..., dict[str, Any]] = bodies.deletion if action == "delete" else bodies.export
    file: Callable[..., Request] = client.delete if action == "delete" else client.export
    if each_line:
        key = _key(settings, key)
        lines = enumerate(_text(value, f"Value of {key}").split("\n"), start=1)
        values = {number: line.removesuffix("\r") for number, line in lines if line.strip()}
        found = client.file(
            (body_of(key=key, value=one, **body) for one in values.values()), idempotency_key=idempotency_key
        )
        _show_each(zip(values, found, strict=True), as_json=as_json)
        return None
    subject = _subject(settings, key, value, conversation_ids)
    if preview:
        click.echo(json.dumps(client.preview(action, **subject), indent=2, ensure_ascii=False))
        return None
    request = file(idempotency_key=idempotency_key, **subject, **body)
    if wait:
        click.echo(f"{request.id} is filed.", err=True)
        request = _waited(client, request.id, timeout)
    _show(request, as_json=as_json, ends=wait)
    return request


def _subject(settings: Settings, key: str | None, value: str, conversation_ids: str | None) -> dict[str, Any]:
    if conversation_ids:
        lines = _text(conversation_ids, "Id of the conversation").split("\n")
        return {"conversation_ids": [line.removesuffix("\r") for line in lines if line.strip()]}
    key = _key(settings, key)
    text = _text(value, f"Value of {key}")
    if "\n" in text:
        # Nobody has it, and "nothing found" would look like the end of the matter.
        raise click.UsageError("The input has several lines. Use --each-line to file a request for each of them.")
    return {"key": key, "value": text}


def _key(settings: Settings, key: str | None) -> str:
    if not (key or settings.key):
        raise click.UsageError("Name the variable that identifies the chatter: --key, or key in the settings.")
    return key or settings.key


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
    with click.progressbar(length=0, label="Conversations", **_shown()) as bar:

        def on_change(request: Request) -> None:
            done, total = request.progress
            bar.length = total
            bar.pos = done
            bar.render_progress()

        return client.wait(request_id, timeout=timeout, on_change=on_change)


def _shown() -> dict[str, Any]:
    """Return the options of a bar, which is for a terminal alone."""
    return {"file": sys.stderr, "hidden": not sys.stderr.isatty()}


@main.command()
@click.argument("request_id")
@click.option("--json", "as_json", is_flag=True, help="Print the request object.")
@click.pass_obj
def status(settings: Settings, request_id: str, as_json: bool) -> None:
    """Show a request as it is now."""
    with _client(settings) as client:
        _show(client.request(request_id), as_json=as_json, ends=False)


@main.command()
@click.argument("request_id")
@click.option("--timeout", type=float, help="Wait for this many seconds at most.")
@click.option("--json", "as_json", is_flag=True, help="Print the request object.")
@click.pass_obj
def wait(settings: Settings, request_id: str, timeout: float | None, as_json: bool) -> None:
    """Wait until a request has ended, or needs a decision."""
    with _client(settings) as client:
        _show(_waited(client, request_id, timeout), as_json=as_json, ends=True)


@main.command()
@click.argument("request_id")
@click.option("--output", type=click.Path(path_type=Path), required=True, help="File, or folder.")
@click.option("--file", help="One of several files, by its name.")
@click.pass_obj
def download(settings: Settings, request_id: str, output: Path, file: str | None) -> None:
    """Download the files of a completed export, and check them."""
    with _client(settings) as client:
        _download(client, client.request(request_id), output, file)


def _download(client: Client, request: Request, output: Path, file: str | None = None) -> None:
    for path in client.download(request, output, file=file):
        click.echo(f"{path} is saved, and has the right SHA-256.", err=True)


@main.command("import", short_help="Store conversations: one JSON document a line.")
@click.argument("file", type=_Input(), default="-")
@click.option("--json", "as_json", is_flag=True, help="Print each result.")
@click.pass_obj
def import_conversations(settings: Settings, file: str, as_json: bool) -> None:
    """Store conversations: one JSON document a line of FILE.

    It is safe to run again: what is stored already stays as it is. Refused lines are told by their number.
    """
    with _client(settings) as client, _reader(file) as lines:
        _show_stored(client.send(_counted(lines, file)), as_json=as_json)


@main.command(short_help="Say who chatted in conversations: one JSON object a line.")
@click.argument("file", type=_Input(), default="-")
@click.option("--key", help="Name of the variable that identifies the chatter.")
@click.option("--json", "as_json", is_flag=True, help="Print each result.")
@click.pass_obj
def identify(settings: Settings, file: str, key: str | None, as_json: bool) -> None:
    """Say who chatted in conversations: one JSON object a line of FILE, with "id" and "value".

    \b
    Example of a line:
      {"id": "c-2001", "value": "m-77"}
    """
    key = _key(settings, key)

    def identities(lines: Iterable[bytes]) -> Iterator[tuple[str, str, str]]:
        for number, line in enumerate(lines, start=1):
            try:
                one = json.loads(line)
                yield one["id"], key, one["value"]
            except (ValueError, KeyError, TypeError):
                raise click.UsageError(f'Line {number} is not like {{"id": "c-2001", "value": "m-77"}}.') from None

    with _client(settings) as client, _reader(file) as lines:
        _show_stored(client.identify(identities(_counted(lines, file))), as_json=as_json)


def _counted(lines: BinaryIO, name: str) -> Iterator[bytes]:
    """Yield the lines of a file, with a bar on a terminal."""
    if name == "-":
        yield from lines
        return
    bar: Any
    with click.progressbar(length=Path(name).stat().st_size, label="Sending", **_shown()) as bar:
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


@main.command("verify-callback", short_help="Verify the signature of a callback.")
@click.argument("body", type=_Input(), default="-")
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
    with _reader(body) as file:
        raw = file.read()
    try:
        callback = verify_callback(raw, headers, *secrets, tolerance=tolerance)
    except InvalidCallback as error:
        _end(str(error), NOT_DONE)
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    click.echo(json.dumps(callback.data) if as_json else f"{callback.event} {callback.request_id or ''}".strip())


@main.group()
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
    with _client(settings) as client:
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


@main.command(short_help="Print a script that completes dca in a shell.")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print a script that completes `dca` in a shell.

    \b
    Examples:
      dca completion bash > ~/.local/share/bash-completion/completions/dca
      dca completion zsh > ~/.zfunc/_dca
      dca completion fish > ~/.config/fish/completions/dca.fish
    """
    found = get_completion_class(shell)
    if found is None:
        raise click.UsageError("This shell is not known.")
    click.echo(found(main, {}, "dca", "_DCA_COMPLETE").source())
