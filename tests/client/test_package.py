"""The package as it is shipped: what it has of the product's tables, and that it installs by itself."""

import subprocess
import sys
from pathlib import Path

import pytest
from django.conf import settings

from common.problems import CODES
from data_compliance_client import APIError
from scripts import client_codes

CLIENT = Path(settings.BASE_DIR) / "client"


def test_there_is_an_exception_for_each_error_code() -> None:
    assert client_codes.PATH.read_text("utf-8") == client_codes.module(), "run python -m scripts.client_codes"
    assert APIError.by_code.keys() == CODES.keys()


@pytest.mark.long(reason="a wheel is built, and installed with its dependencies from an index", each_quarter=True)
def test_it_installs_and_runs_by_itself(tmp_path: Path) -> None:
    def run(*words: str) -> str:
        done = subprocess.run(words, check=False, capture_output=True, text=True, cwd=tmp_path, timeout=250)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", str(tmp_path), str(CLIENT))
    [wheel] = tmp_path.glob("*.whl")
    assert list(tmp_path.glob("*.tar.gz"))
    run(sys.executable, "-m", "venv", "fresh")
    run("fresh/bin/python", "-m", "pip", "install", "--quiet", str(wheel))
    assert "Delete, export" in run("fresh/bin/dca", "--help")
    assert "wait" in run("fresh/bin/python", "-c", "import data_compliance_client as c; print(dir(c.AsyncClient))")
