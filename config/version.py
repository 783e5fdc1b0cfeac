"""Which version of the service this is."""

import tomllib

from config.env import BASE_DIR


def _read() -> str:
    with (BASE_DIR / "pyproject.toml").open("rb") as file:
        return str(tomllib.load(file)["project"]["version"])


VERSION = _read()
