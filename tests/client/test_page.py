"""The page about the package, run as written."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings

from tests.calls import TokenCaller
from tests.client.test_callbacks import BODY, SECRET, theirs
from tests.conversations.documents import document
from tests.factories import conversation_of

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
