"""The units of `deploy/systemd/` are valid and run the lines of the Procfile; its script keeps roles apart."""

import os
import re
import shutil
import subprocess
import sys
from configparser import ConfigParser
from pathlib import Path

import pytest
from django.conf import settings

ROOT = Path(settings.BASE_DIR)
UNITS = ROOT / "deploy/systemd"
INSTALLED = "/srv/data-compliance"
PAGE = (ROOT / "docs/operators/without-containers.md").read_text()


def unit(name: str) -> ConfigParser:
    """Return a unit; of a key that it has twice, the last value."""
    parser = ConfigParser(strict=False, interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read_string((UNITS / f"data-compliance-{name}.service").read_text())
    return parser


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="there is no systemd-analyze here")
def test_systemd_accepts_the_units(tmp_path: Path) -> None:
    names = sorted(path.name for path in UNITS.glob("data-compliance-*"))
    for name in names:
        # Their programs have to exist.
        text = (UNITS / name).read_text().replace(f"{INSTALLED}/.venv/bin/", f"{Path(sys.executable).parent}/")
        (tmp_path / name).write_text(text.replace(INSTALLED, str(ROOT)))
    argv = ["systemd-analyze", "verify", *(str(tmp_path / name) for name in names)]

    done = subprocess.run(argv, check=False, capture_output=True, text=True)

    assert names == [
        f"data-compliance-{name}" for name in ("backup.service", "backup.timer", "web.service", "worker.service")
    ]
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_the_units_run_the_lines_of_the_procfile() -> None:
    lines = dict(re.findall(r"^(\w+): (.+)$", (ROOT / "Procfile").read_text(), re.MULTILINE))

    started = {name: unit(name)["Service"]["ExecStart"].removeprefix(f"{INSTALLED}/.venv/bin/") for name in lines}
    assert started == lines


def test_each_unit_has_the_settings_of_its_role_and_a_user_of_its_own() -> None:
    for name, role in {"web": "web", "worker": "worker", "backup": "owner"}.items():
        text = (UNITS / f"data-compliance-{name}.service").read_text()
        assert re.findall(r"^EnvironmentFile=(.+)$", text, re.MULTILINE) == [
            f"/etc/data-compliance/{each}.env" for each in ("common", role)
        ]
        assert "DynamicUser=yes\n" in text
    assert all(f"`{path.name}`" in PAGE for path in UNITS.iterdir())


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
@pytest.mark.parametrize(("role", "is_root"), [("owner", True), ("web", False), ("worker", False)])
def test_commands_of_web_and_worker_have_no_rights(tmp_path: Path, role: str, is_root: bool) -> None:
    project = tmp_path / "project"
    (project / ".venv/bin").mkdir(parents=True)
    for folder in (tmp_path, *tmp_path.parents[:2], project):
        folder.chmod(0o755)
    python = project / ".venv/bin/python"
    python.write_text('#!/bin/sh\necho "$(id -u) $PGUSER $S3_BUCKET $*"\n')
    python.chmod(0o755)
    (tmp_path / "common.env").write_text("S3_BUCKET='a $bucket'\n")
    (tmp_path / f"{role}.env").write_text(f"PGUSER=compliance_{role}\n")
    where = {"COMPLIANCE_SETTINGS": str(tmp_path), "COMPLIANCE_PROJECT": str(project), "PATH": os.environ["PATH"]}

    argv = [UNITS / "compliance", role, "health", "--json"]
    done = subprocess.run(argv, check=True, env=where, capture_output=True, text=True)

    uid, *words = done.stdout.split()
    assert (uid == "0") is is_root
    assert words == [f"compliance_{role}", "a", "$bucket", "manage.py", "health", "--json"]
