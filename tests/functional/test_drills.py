"""Erased chatters stay erased after the database is restored: the drill of `make drill`, one way at a time."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.drill import WAYS
from tests.functional.support import ROOT

_SECONDS = 900


@pytest.mark.long(
    reason="Starts two or three PostgreSQL servers, an S3 server and clusters, and runs some 40 commands."
)
@pytest.mark.timeout(_SECONDS)
# Not the last, a copy for staging: `make drill` goes through it, too.
@pytest.mark.parametrize("way", WAYS[:3])
def test_nobody_who_was_erased_comes_back(way: str, tmp_path: Path) -> None:
    argv = [sys.executable, "-m", "tests.drill", f"--only={way}", f"--folder={tmp_path / 'drill'}"]

    done = subprocess.run(argv, cwd=ROOT, env=dict(os.environ), check=False, capture_output=True, text=True)

    assert done.returncode == 0, done.stdout + done.stderr
