"""The version of the service."""

import tomllib
from pathlib import Path


def _read() -> str:
    with (Path(__file__).parent.parent / "pyproject.toml").open("rb") as file:
        return str(tomllib.load(file)["project"]["version"])


VERSION = _read()
