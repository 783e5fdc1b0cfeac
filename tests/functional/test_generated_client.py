"""A client generated from the document files requests, follows them and downloads their files."""

import csv
import importlib
import io
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from django.core.management import call_command

from chatbots.authentication import sign
from tests import factories
from tests.calls import ALICE, SigningCaller, TokenCaller
from tests.commands import run

SECRET = "a_secure_secret"
PACKAGE = "generated_compliance_client"


@pytest.fixture
def client(tmp_path: Path, monkeypatch) -> Iterator[ModuleType]:
    """The package that openapi-python-client makes. It warns of nothing but JSON Lines, which it does not know."""
    call_command("spectacular", format="openapi-json", file=str(tmp_path / "document.json"))
    (tmp_path / "config.yaml").write_text("post_hooks: []\n")  # they would tidy it up
    argv = [str(Path(sys.executable).with_name("openapi-python-client")), "generate", "--meta", "none"]
    argv += ["--path", "document.json", "--config", "config.yaml", "--output-path", PACKAGE]
    made = subprocess.run(argv, cwd=tmp_path, check=False, capture_output=True, text=True)
    assert made.returncode == 0, made.stdout + made.stderr
    assert re.findall(r"(?:WARNING|Unable to|Unsupported).*", made.stdout + made.stderr) == [
        "WARNING parsing POST /api/v1/chatbots/{slug}/conversations within conversations.",
        "Unsupported content type application/x-ndjson",
    ]
    monkeypatch.syspath_prepend(tmp_path)
    yield importlib.import_module(PACKAGE)
    for name in [name for name in sys.modules if name.startswith(PACKAGE)]:
        del sys.modules[name]


def _call(name: str) -> ModuleType:
    return importlib.import_module(f"{PACKAGE}.api.{name}")


def _models() -> Any:
    return importlib.import_module(f"{PACKAGE}.models")


def _signs(request: Any) -> None:
    timestamp = str(int(time.time()))
    signature = sign(secret=SECRET, timestamp=timestamp, body=request.content)
    request.headers.update({"X-Mindsay-Timestamp": timestamp, "X-Mindsay-Signature": signature})


@pytest.mark.long(reason="a client is generated")
def test_it_exports_a_chatter_with_a_token_and_deletes_one_with_a_signature(client, live_server, chatbot, storage):
    SigningCaller(chatbot, SECRET)
    token = TokenCaller(chatbot).token
    conversation = factories.conversation_of(chatbot, "alice-77", messages=2, text="My parcel is late.")
    slug = chatbot.slug

    with client.AuthenticatedClient(live_server.url, token, follow_redirects=True) as caller:
        document = _models().Document.from_dict(
            {"id": "c-9", "channel": "widget", "started_at": "2026-11-23T09:00:00Z"}
        )
        stored = _call("conversations.store_conversations").sync(slug, client=caller, body=[document])
        assert [result.outcome.value for result in stored.results] == ["created"]
        filed = _call("requests.file_export").sync(slug, client=caller, body=_models().ExportBody(**ALICE))
        assert (filed.kind.value, filed.status.value, filed.result) == ("export", "accepted", None)
        run("process_requests")
        followed = _call("requests.get_request").sync(slug, filed.request_id, client=caller)
        assert (followed.status.value, followed.export.rows) == ("completed", 2)
        file = _call("requests.download_export").sync_detailed(slug, filed.request_id, client=caller)
        rows = list(csv.DictReader(io.StringIO(file.content.decode())))
        assert [row["text"] for row in rows] == ["My parcel is late."] * 2

        with client.Client(live_server.url, httpx_args={"event_hooks": {"request": [_signs]}}) as signer:
            body = _models().DeletionBody(**ALICE, action="delete")
            deletion = _call("requests.file_deletion").sync(slug, client=signer, body=body)
        run("process_requests")
        followed = _call("requests.get_request").sync(slug, deletion.request_id, client=caller)
        assert (followed.status.value, followed.counts.conversations) == ("completed", 1)

        unknown = _call("requests.file_export").sync(
            slug, client=caller, body=_models().ExportBody.from_dict(ALICE | {"unique_chatter_identifier_key": "no"})
        )
        assert isinstance(unknown, _models().Problem)
        assert unknown.code.value == "unknown_uci_key"
    conversation.refresh_from_db()
    assert conversation.deleted_at is not None
