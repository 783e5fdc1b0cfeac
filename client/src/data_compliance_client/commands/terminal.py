"""What the commands share: input, errors with their exit codes, bars."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

import click

from data_compliance_client.clients import Client
from data_compliance_client.commands.settings import Settings
from data_compliance_client.errors import APIError, ComplianceError, DownloadIncomplete, Unreachable, WaitTimeout

NOT_DONE, UNDECIDED, REFUSED, NO_ANSWER = 1, 3, 4, 5


class Input(click.Path):
    """The name of a file, or `-` for standard input. A value in its place is not repeated in the error."""

    def __init__(self) -> None:
        super().__init__(dir_okay=False)
        self.name = "file"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if value != "-" and not Path(value).is_file():
            text = "there is no such file. A value comes from a file or from standard input (-), never from here."
            self.fail(text, param, ctx)
        return value


def reader(name: str) -> BinaryIO:
    if name == "-" and not sys.stdin:
        raise click.UsageError("Standard input is closed.")
    return sys.stdin.buffer if name == "-" else Path(name).open("rb")


def text_of(name: str, asked_for: str) -> str:
    """Return what a file or standard input contains, without the end of its last line, and without Windows' mark."""
    if name == "-" and sys.stdin and sys.stdin.isatty():
        return str(click.prompt(asked_for, err=True))
    with reader(name) as file:
        content = file.read()
    try:
        return content.decode("utf-8-sig").removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError:
        raise click.UsageError("The input is not UTF-8.") from None


@contextmanager
def connected(settings: Settings) -> Iterator[Client]:
    """Open a client, and end the command with the right code if something goes wrong."""
    try:
        with settings.client() as client:
            yield client
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    except WaitTimeout as error:
        end(str(error), UNDECIDED)
    except Unreachable as error:
        end(f"{error}{_again(error)}", NO_ANSWER)
    except DownloadIncomplete as error:
        end(str(error), NOT_DONE)
    except BrokenPipeError:
        raise
    except OSError as error:
        end(f"A file could not be read or written: {error.strerror}.", NOT_DONE)
    except APIError as error:
        remedy = (type(error).__doc__ or "").split("\n\n")[-1] if type(error) is not APIError else ""
        trace = f"trace_id {error.trace_id}" if error.trace_id else ""
        again = _again(error) if error.status == 429 or error.status >= 500 else ""
        end("\n".join(part for part in (f"{error}{again}", " ".join(remedy.split()), trace) if part), REFUSED)


@contextmanager
def repeatable(idempotency_key: str) -> Iterator[None]:
    """Tell the key if somebody interrupts the command: a request may be filed by then."""
    try:
        yield
    except KeyboardInterrupt:
        text = f"It may be filed already. If you call again, use --idempotency-key {idempotency_key}"
        click.echo(text, err=True)
        raise


def _again(error: ComplianceError) -> str:
    return f" Call again with --idempotency-key {error.idempotency_key}" if error.idempotency_key else ""


def end(text: str, code: int) -> NoReturn:
    click.echo(f"Error: {text}", err=True)
    sys.exit(code)


def key_of(settings: Settings, key: str | None) -> str:
    if not (key or settings.key):
        raise click.UsageError("Name the variable that identifies the chatter: --key, or key in the settings.")
    return key or settings.key


def bar_options() -> dict[str, Any]:
    """Return the options of a bar, which is for a terminal alone."""
    return {"file": sys.stderr, "hidden": not sys.stderr.isatty()}
