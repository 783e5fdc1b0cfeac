"""The tour of the README, run as written, gives the results that the README says."""

import json
import re
import subprocess

import pytest
from django.db import connection

from common.storage import ObjectStorage
from scripts.processes import Processes
from tests.functional.support import ROOT, manage, worker_environment
from tests.functional.web import web_server

README = (ROOT / "README.md").read_text()

pytestmark = [
    pytest.mark.long(reason="starts a dozen programs, one after the other"),
    pytest.mark.skipif(not (ROOT / ".venv").exists(), reason="the tour runs what `make` installed into .venv"),
]


def tour() -> str:
    block: str
    [block] = re.findall(r"^```sh\n(manage\(\).*?)^```", README, re.MULTILINE | re.DOTALL)
    # Waits for a busy machine, and is no part of what is promised.
    return block.replace("sleep 2", "sleep 10")


def test_the_readmes_tour_works(storage: ObjectStorage) -> None:
    one_role_for_all = worker_environment(role=connection.settings_dict["USER"])
    with Processes() as processes, web_server() as server:
        processes.start("worker", manage("qcluster"), env=worker_environment())
        script = tour().replace("127.0.0.1:8000", f"127.0.0.1:{server.port}")
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script],
            cwd=ROOT,
            env=one_role_for_all,
            check=False,
            capture_output=True,
            text=True,
            timeout=120,
        )

    assert done.returncode == 0, done.stderr
    answers = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    assert [(each["kind"], each["status"], each["result"]) for each in answers] == [
        ("export", "completed", "done"),
        ("deletion", "completed", "done"),
    ]
    counts = answers[1]["counts"]
    assert (counts["conversations"], counts["messages"], counts["identities"]) == (1, 2, 1)
    [last] = re.findall(r"^The last line prints `(.+?)`", README, re.MULTILINE)
    assert done.stdout.splitlines()[-1] == last
