"""The command `dca`."""

from pathlib import Path

import click
from click.shell_completion import get_completion_class

from data_compliance_client.commands import checking, filing, sending
from data_compliance_client.commands.settings import load

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


for _command in (
    *(filing.delete, filing.export, filing.status, filing.wait, filing.download),
    *(sending.import_conversations, sending.identify, checking.verify, checking.keys),
):
    main.add_command(_command)
