"""The commands and calls of the guides, run as written, give what the guides say."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.db import connection

from common.storage import ObjectStorage
from compliance.models import ComplianceRequest
from scripts.processes import Processes
from tests.functional.support import ROOT, manage, worker_environment
from tests.functional.web import web_server

pytestmark = pytest.mark.long(reason="starts two dozen programs, one after the other")

# What a reader puts in, and the variable of the script that has it.
READERS = {
    "'<the secret of the token>'": '"$TOKEN_MADE"',
    "'<the secret of the signing key>'": '"$SECRET_MADE"',
    "'<request_id of the answer>'": '"$REQUEST_FILED"',
}
_FILED = r"""REQUEST_FILED=$(sed -n 's/.*"request_id":"\([^"]*\)".*/\1/p' said)"""


def blocks(guide: str) -> list[str]:
    text = (ROOT / "docs" / "guides" / f"{guide}.md").read_text()
    return re.findall(r"^```sh\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def steps() -> Iterator[str]:
    """Yield what a reader of the guides types, with what was shown in place of what is to be filled in."""
    for block in [*blocks("data-compliance"), *blocks("daily-extracts"), *blocks("retention")]:
        if "AKIAEXAMPLE" in block:
            continue  # a bucket at AWS
        if "--type" in block:
            name = "TOKEN_MADE" if "--type token" in block else "SECRET_MADE"
            yield f"{name}=$({block.rstrip()} | tail -n 1)"
        elif "data-deletion" in block:
            yield f"{{ {block}\n}} > said; cat said; echo\n{_FILED}; sleep 10"
        else:
            yield f"{block.rstrip()}\necho"


def test_the_guides_work_as_written(storage: ObjectStorage, tmp_path: Path) -> None:
    one_role_for_all = worker_environment(role=connection.settings_dict["USER"])
    with Processes() as processes, web_server() as server:
        processes.start("worker", manage("qcluster"), env=worker_environment())
        script = "\n".join(steps())
        for written, made in READERS.items():
            assert written in script
            script = script.replace(written, made)
        script = script.replace("https://compliance.example.com", f"http://127.0.0.1:{server.port}")
        script = script.replace(".venv/bin/python manage.py", f"{sys.executable} {ROOT / 'manage.py'}")
        script = script.replace(
            "--scope conversations:write", "--scope conversations:write --scope conversations:read"
        )  # the second guide's token
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script],
            cwd=tmp_path,
            env=one_role_for_all,
            check=False,
            capture_output=True,
            text=True,
            timeout=180,
        )

    assert done.returncode == 0, done.stderr
    assert "The first run, 24 hours after you set this, erases 0 conversations" in done.stdout
    assert "acme: 0 conversations are due" in done.stdout
    answers = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    stored, filed, deleted, listed, exported = answers
    assert [one["outcome"] for one in stored["results"]] == ["created"]
    assert (filed["kind"], filed["status"]) == ("deletion", "accepted")
    assert (deleted["request_id"], deleted["status"], deleted["result"]) == (filed["request_id"], "completed", "done")
    assert deleted["counts"]["conversations"] == 1
    days = {one["day"]: one for one in listed["extracts"]}
    assert days["2026-11-23"]["state"] == "done"
    file = (tmp_path / "extract.csv").read_bytes()
    assert file.startswith(b'"conversation_id",')
    assert len(file) == days["2026-11-23"]["bytes"]
    assert (exported["kind"], exported["status"]) == ("export", "accepted")
    kinds = ComplianceRequest.objects.order_by("seq").values_list("kind", flat=True)
    assert list(kinds) == ["deletion", "export", "retention"]
