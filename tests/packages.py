"""The packages of the service, by the order that import-linter holds."""

import tomllib
from pathlib import Path

_PROJECT = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text())
# Without the client, which import-linter keeps apart.
SERVICE = frozenset(_PROJECT["tool"]["importlinter"]["root_packages"]) - {"data_compliance_client"}
