"""The package as it is shipped: what it has of the product's tables, that it installs by itself, and its page."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings

from common.problems import CODES
from data_compliance_client import APIError
from scripts import client_codes
from tests.calls import TokenCaller
from tests.client.test_callbacks import BODY, SECRET, theirs
from tests.conversations.documents import document
from tests.factories import conversation_of

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


PAGE = (Path(settings.BASE_DIR) / "docs/clients/use-python.md").read_text()
BLOCKS = re.findall(r"^```python\n((?:(?!^```).*\n)*)^```$", PAGE, re.MULTILINE)


@pytest.mark.usefixtures("storage", "working")
def test_its_programs_do_what_it_says(live_server, chatbot, tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    conversation_of(chatbot, "m-85")
    lines = [document("c-1"), document("c-2", channel="pigeon")]
    (tmp_path / "conversations.jsonl").write_text("\n".join(map(json.dumps, lines)))
    program: dict[str, Any] = {"TOKEN": str(TokenCaller(chatbot).token), "CALLBACK_SECRET": SECRET}

    for block in BLOCKS:
        exec(block.replace("https://compliance.example.com", live_server.url), program)  # noqa: S102
    program["receive"](theirs(), BODY)
    program["receive"]({}, BODY)

    assert (tmp_path / "m-85" / "index.html").exists()
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] == "done"
    assert printed[1] == "Document 2 is refused: invalid"
    assert printed[2].startswith("unknown_uci_key /unique_chatter_identifier_key ")
    assert set(printed[3:-1]) <= {"True", "False"}
    assert "True" in printed[3:-1]
    assert printed[-1] == "request.completed r-1"
