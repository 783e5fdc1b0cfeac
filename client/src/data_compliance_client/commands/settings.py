"""The settings of the command: in a file that its owner alone can read, and in the environment."""

import os
import stat
import tomllib
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from click import UsageError

from data_compliance_client.clients import Client


@dataclass(frozen=True)
class Settings:
    url: str = ""
    chatbot: str = ""
    token: str = field(default="", repr=False)
    signing_secret: str = field(default="", repr=False)
    callback_secret: str = field(default="", repr=False)
    """Several, separated by spaces, while one replaces another."""
    key: str = ""
    """The name of the variable that identifies a chatter."""
    patience: str = "120"
    """For how many seconds a call that fails for now is repeated."""

    def client(self) -> Client:
        """Return a client. Raises UsageError if a setting is missing or wrong."""
        for name in ("url", "chatbot"):
            if not getattr(self, name):
                raise UsageError(f"Set {name} in {default_path()}, or {_variable(name)} in the environment.")
        try:
            return Client(
                self.url,
                self.chatbot,
                token=self.token,
                signing_secret=self.signing_secret,
                patience=float(self.patience),
            )
        except ValueError as error:
            raise UsageError(str(error)) from None


def load(path: Path | None) -> Settings:
    """Return the settings of the file, with those of the environment in place of them. Raises UsageError."""
    chosen = path or default_path()
    if not chosen.exists():
        if path is not None:
            raise UsageError(f"There is no file {chosen}.")
        found: dict[str, Any] = {}
    else:
        found = _read(chosen)
    known = {one.name for one in fields(Settings)}
    unknown = sorted(found.keys() - known)
    if unknown:
        raise UsageError(f"{chosen} has the unknown setting {unknown[0]}. There are: {', '.join(sorted(known))}.")
    environment = {name: os.environ[_variable(name)] for name in known if _variable(name) in os.environ}
    return Settings(**{name: str(value) for name, value in {**found, **environment}.items()})


def default_path() -> Path:
    """Return where the file is unless another one is named."""
    folder = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    return Path(folder) / "dca" / "config.toml"


def _read(path: Path) -> dict[str, Any]:
    if stat.S_IMODE(path.stat().st_mode) & 0o077:
        raise UsageError(f"Others can read the keys in {path}. Run: chmod 600 {path}")
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError):
        # The parser's message quotes the line, and a line can be a key.
        raise UsageError(f'{path} is not TOML. A line is like: url = "https://compliance.example.com"') from None


def _variable(name: str) -> str:
    return f"DCA_{name.upper()}"
